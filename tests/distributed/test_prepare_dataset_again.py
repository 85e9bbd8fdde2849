"""What has been prepared once is not decoded again: after a crash, after Ctrl-C, and with --update."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from diagram_ray.data.parquet import shard_writer
from diagram_ray.data.parquet.layout import read_info, read_rejects
from diagram_ray.data.parquet.pieces import read_entries
from diagram_ray.data.parquet.progress import PreparationProgress
from diagram_ray.data.parquet.source_identity import identify_images
from diagram_ray.data.parquet.staging import work_area
from diagram_ray.data.preprocessing.prepare_image import Options, image_id_of
from diagram_ray.data.readers import folder, inbreast
from diagram_ray.data.records import Index
from diagram_ray.distributed import prepare_dataset as ingest
from diagram_ray.distributed.prepare_dataset import KILLED, prepare_dataset
from diagram_ray.errors import DiagramError, UsageError
from tests.support.repository import ROOT

OF_RAY = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
pytestmark = [pytest.mark.ray, pytest.mark.slow, OF_RAY]

OPTIONS = Options((64, 48), 32, 2, b"a key of the test", "negative")
FilesOf = Callable[[Path], dict[str, bytes]]


def quiet(tally: PreparationProgress) -> None:
    """No progress."""


def prepare(index: Index, out: Path | str, update: bool = False, options: Options = OPTIONS) -> dict:
    return prepare_dataset(index, str(out), options, "phantom", quiet, update)


def opened(wishes: Path) -> list[str]:
    """The names of the files that were opened, once for each time, and forgets them."""
    found = list(wishes.glob("opened-*"))
    for path in found:
        path.unlink()
    return sorted(path.name.removeprefix("opened-").rpartition("-")[0] for path in found)


def kept_files(index: Index, out: Path) -> set[str]:
    """The names of the files whose images an unfinished run has left."""
    left = read_entries(out.with_name(f".{out.name}.partial") / "pieces")
    names = {image.identity: Path(image.record.path).name for image in identify_images(index.records, OPTIONS)}
    return {names[entry.identity] for entry in left}


def name_of(index: Index, number: int) -> str:
    return Path(index.records[number].path).name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dataset of a run without any trouble is, once somebody has asked for it."""
    return tmp_path_factory.mktemp("undisturbed") / "out"


@pytest.mark.usefixtures("session")
class TestCutOff:
    @pytest.fixture(autouse=True)
    def small_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ingest, "PIECE_IMAGES", 4)

    def expected(self, index: Index, undisturbed: Path, files_of: FilesOf) -> dict[str, bytes]:
        if not undisturbed.exists():
            prepare(index, undisturbed)
        return files_of(undisturbed)

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
    def test_what_is_done_is_kept(
        self, index: Index, undisturbed: Path, tmp_path: Path, wishes: Path, files_of: FilesOf,
        failure: type[BaseException], caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        expected = self.expected(index, undisturbed, files_of)
        opened(wishes)

        def fail(tally: PreparationProgress) -> None:
            if tally.done >= 20:
                raise failure

        with pytest.raises(failure), caplog.at_level("INFO", "diagram_ray"):
            prepare_dataset(index, str(tmp_path / "out"), OPTIONS, "phantom", fail)
        if failure is KeyboardInterrupt:
            assert re.search(r"20 of 48 images are kept in .*/\.out\.partial: the same command", caplog.text)
        assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
        first, kept = opened(wishes), kept_files(index, tmp_path / "out")
        turned = replace(index, records=random.Random(0).sample(index.records, 48))
        prepare(turned, tmp_path / "out")
        again = opened(wishes)
        assert len(first) >= len(kept) >= 20
        assert not kept & set(again), "of the rest some are opened twice: tasks in flight are not waited for"
        assert files_of(tmp_path / "out") == expected
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_other_settings_are_refused_and_nothing_is_lost(self, index: Index, tmp_path: Path) -> None:
        def fail(tally: PreparationProgress) -> None:
            if tally.done >= 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(index, str(tmp_path / "out"), OPTIONS, "phantom", fail)
        for other, said in (
            (replace(OPTIONS, image_size=(96, 48)), r"image_size \[64, 48\] there, \[96, 48\] now"),
            (replace(OPTIONS, key=b"another key, as long"), "another key for the hashes of patients"),
        ):
            with pytest.raises(UsageError, match=rf"{said}; ask for the same settings .* or remove that folder"):
                prepare(index, tmp_path / "out", options=other)
        assert len(list((tmp_path / ".out.partial" / "pieces").iterdir())) >= 10

    def test_a_worker_that_is_killed_leaves_no_trace(
        self, index: Index, undisturbed: Path, tmp_path: Path, wishes: Path, files_of: FilesOf
    ) -> None:
        expected = self.expected(index, undisturbed, files_of)
        (wishes / f"once-{name_of(index, 5)}").touch()
        (wishes / f"once-{name_of(index, 30)}").touch()
        prepare(index, tmp_path / "out")
        assert not list(wishes.glob("once-*"))
        assert files_of(tmp_path / "out") == expected

    def test_a_file_that_kills_its_worker_is_the_only_reject(
        self, index: Index, tmp_path: Path, wishes: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (wishes / f"kill-{name_of(index, 20)}").touch()
        info = prepare(index, tmp_path / "out")
        rejects = read_rejects(str(tmp_path / "out"))
        assert rejects["reason"].tolist() == [KILLED]
        assert rejects["path"][0].endswith("_ANON.dcm")
        assert index.records[20].patient_id not in rejects["path"][0]
        assert info["counts"]["images"] == 47
        assert opened(wishes).count(name_of(index, 20)) == 3
        assert capfd.readouterr() == ("", ""), "Ray's own words on dead workers"

    def test_workers_that_keep_dying_are_a_failure(
        self, index: Index, tmp_path: Path, wishes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "KILLERS", 1)
        for number in range(3):
            (wishes / f"kill-{name_of(index, number)}").touch()
        with pytest.raises(DiagramError, match="workers have died"):
            prepare(replace(index, records=index.records[:3]), tmp_path / "out")

    def test_update_decodes_what_is_new_or_changed_and_drops_what_is_gone(
        self, films: Callable[..., Path], tmp_path: Path, wishes: Path, files_of: FilesOf,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(shard_writer, "SHARD_BYTES", 3 * 2 * 64 * 48)
        options = replace(OPTIONS, negative="benign")
        source = films(tmp_path / "in", 9)
        (source / "benign" / "90_cut.png").write_bytes(b"\x89PNG cut")
        prepare(folder.index(f"hostile://{source}"), tmp_path / "out", options=options)
        old = files_of(tmp_path / "out")
        opened(wishes)
        films(source, 12, first=9)
        os.utime(source / "malignant" / "4_1.png", ns=(1, 1))
        (source / "benign" / "7_1.png").unlink()
        index = folder.index(f"hostile://{source}")
        whole = []

        def look(tally: PreparationProgress) -> None:
            whole.append(files_of(tmp_path / "out") == old)

        info = prepare_dataset(index, str(tmp_path / "out"), options, "phantom", look, update=True)
        assert opened(wishes) == ["10_1.png", "11_1.png", "12_1.png", "4_1.png", "90_cut.png"]
        assert len(whole) > 2
        assert all(whole)
        prepare(index, tmp_path / "fresh", options=options)
        assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")
        assert info == read_info(str(tmp_path / "out"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "in", "out"]

    def test_update_of_what_has_not_changed_touches_nothing(
        self, index: Index, undisturbed: Path, tmp_path: Path, wishes: Path, files_of: FilesOf,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        expected = self.expected(index, undisturbed, files_of)
        opened(wishes)
        with caplog.at_level("INFO", "diagram_ray"):
            assert prepare(index, undisturbed, update=True) == json.loads(expected["dataset.json"])
        assert "nothing has changed" in caplog.text
        assert opened(wishes) == []
        assert files_of(undisturbed) == expected

    def test_update_does_not_take_over_what_is_damaged(
        self, index: Index, undisturbed: Path, tmp_path: Path, wishes: Path, files_of: FilesOf
    ) -> None:
        expected = self.expected(index, undisturbed, files_of)
        few = replace(index, records=index.records[:-1])
        prepare(few, tmp_path / "out")
        part = tmp_path / "out" / "images" / "part-00000.parquet"
        data = bytearray(part.read_bytes())
        data[len(data) * 2 // 3] ^= 1
        part.write_bytes(data)
        opened(wishes)
        prepare(index, tmp_path / "out", update=True)
        assert 1 < len(opened(wishes)) < 48
        assert files_of(tmp_path / "out") == expected

    def test_update_with_other_settings_is_refused(self, index: Index, undisturbed: Path, files_of: FilesOf) -> None:
        expected = self.expected(index, undisturbed, files_of)
        with pytest.raises(UsageError, match=r"was prepared with other settings: patch_size 32 there, 48 now; give an"):
            prepare(index, undisturbed, update=True, options=replace(OPTIONS, patch_size=48))
        assert files_of(undisturbed) == expected
        assert [path.name for path in undisturbed.parent.iterdir()] == ["out"]


def test_a_node_that_is_lost_leaves_no_trace(phantom: Path, tmp_path: Path, files_of: FilesOf) -> None:
    """On a cluster of two, which the command joins; the same dataset comes of one process by itself."""
    (tmp_path / "token").write_text("a" * 64)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    command = [sys.executable, "-m", "tests.support.drive_two_nodes", str(phantom), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith("processors")] == [
        "2 processors",
        "1 processors",
    ]
    index = inbreast.index(str(phantom))
    images = identify_images(index.records, OPTIONS)
    with work_area(str(tmp_path / "alone"), {}, update=False) as area:
        entries, _ = ingest._decode(area.pieces, OPTIONS, images)
        digests = sorted(entry.digest for entry in entries)
    table = pd.read_parquet(tmp_path / "out" / "sources.parquet")
    assert sorted(table["digest"]) == digests


def children(process: int) -> set[int]:
    """The process and all its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[str]"]]:
    """A list for processes: those that a failed test leaves are killed, with all that they have started."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        if process.poll() is None:
            for each in children(process.pid):
                os.kill(each, signal.SIGKILL)
            process.communicate()


@pytest.mark.usefixtures("session")
def test_the_command_goes_on_after_kill_and_after_ctrl_c(
    films: Callable[..., Path], tmp_path: Path, wishes: Path, files_of: FilesOf, wait_until: Callable[..., None],
    started: list["subprocess.Popen[str]"],
) -> None:  # fmt: skip
    """Killed at the last image, interrupted there, then left alone: each image is decoded once, but for the last."""
    source, out, key = films(tmp_path / "in", 40), tmp_path / "out", tmp_path / "key"
    key.write_bytes(OPTIONS.key)
    records = sorted(folder.index(str(source)).records, key=lambda record: image_id_of(record, OPTIONS.key))
    last = Path(records[-1].path).name
    gate = wishes / f"gate-{last}"
    command = [sys.executable, "-m", "diagram_ray.prepare", "folder", "--source", f"hostile://{source}"]
    command += ["--key", str(key), "--image-size", "64x48", "--json", "--out"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen([*command, str(out)], cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    def kept() -> int:
        return len(read_entries(tmp_path / ".out.partial" / "pieces"))

    os.mkfifo(gate)
    process = start()
    wait_until(lambda: kept() == 39 and list(wishes.glob(f"opened-{last}-*")))
    family = children(process.pid)
    for each in family:
        os.kill(each, signal.SIGKILL)
    process.communicate()
    assert not out.exists()

    process = start()
    wait_until(lambda: len(list(wishes.glob(f"opened-{last}-*"))) == 2)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == ""
    assert "39 of 40 images are there from an earlier run" in errors
    assert "39 of 40 images are kept in" in errors
    assert "Traceback" not in errors

    gate.unlink()
    process = start()
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(said.splitlines()[-1]) == json.loads((out / "dataset.json").read_text())
    counts = Counter(opened(wishes))
    assert counts.pop(last) == 3
    assert len(counts) == 39
    assert set(counts.values()) == {1}
    assert not (tmp_path / ".out.partial").exists()
    options = Options((64, 48), 32, 4, OPTIONS.key, "benign", f"hostile://{source}")
    prepare_dataset(folder.index(f"hostile://{source}"), str(tmp_path / "again"), options, "folder", quiet)
    both = [files_of(out), files_of(tmp_path / "again")]
    for files in both:
        del files["sources.parquet"]  # it tells the program's own files apart, on which somebody may work just now
    assert both[0] == both[1]
