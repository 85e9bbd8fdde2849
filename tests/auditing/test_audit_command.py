"""The command over whole datasets: what was planted is found, a clean one raises nothing, and both are recorded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from diagram_ray import audit as command
from diagram_ray.audit import app, audited
from diagram_ray.data.parquet.layout import read_info
from diagram_ray.distributed import audit_dataset as engine
from diagram_ray.reporting.audit_note import audit_note
from diagram_ray.reporting.study_data import StudyData

Write = Callable[..., str]
Manifest = Callable[..., pd.DataFrame]
Pictures = Callable[[int], np.ndarray[Any, np.dtype[np.uint16]]]


def run(*arguments: str, status: int = 0) -> tuple[dict[str, Any], str]:
    """The command's JSON and its messages."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.stderr
    *told, last = done.stdout.splitlines()
    return json.loads(last), "\n".join(told)


def codes(found: dict[str, Any], *severities: str) -> set[str]:
    return {finding["code"] for finding in found["findings"] if finding["severity"] in severities}


@pytest.fixture
def planted(tmp_path: Path, write: Write, make_manifest: Manifest, make_pictures: Pictures) -> tuple[str, list[str]]:
    """40 patients; two pictures of one stand, a little brighter, under another, and film borders tell who is ill."""
    manifest = make_manifest(40)
    pixels = make_pictures(len(manifest)).copy()
    copies = {9: 0, 130: 70}
    for copy, original in copies.items():
        pixels[copy] = (pixels[original] * 0.9).astype(np.uint16)
    ill = (manifest["label"] == "cancer").to_numpy()
    manifest["border_part"] = np.where(ill, 0.03, 0.0) + np.random.default_rng(0).uniform(0, 0.01, len(manifest))
    named = [manifest["image_id"][row] for pair in copies.items() for row in pair]
    return write(tmp_path / "planted", manifest, pixels), named


def test_a_clean_dataset_raises_nothing(made_up: str) -> None:
    found, told = run(made_up, "--strict")
    assert not codes(found, "serious", "warning")
    assert found["pairs"] == []
    assert "serious" not in told
    document = json.loads((Path(made_up) / "audit.json").read_text())
    assert document["findings"] == found["findings"]
    assert "Nothing was found that would make a number" in (Path(made_up) / "audit.html").read_text()


def test_what_was_planted_is_found(planted: tuple[str, list[str]]) -> None:
    uri, named = planted
    found, told = run(uri, "--strict", status=1)
    assert codes(found, "serious") == {"duplicates", "shortcut"}
    assert sorted(image for pair in found["pairs"] for image in pair["images"]) == sorted(named)
    assert "film border" in told
    page = (Path(uri) / "audit.html").read_text()
    assert all(image in page for image in named)
    assert page.count("<img") >= len(named)


def test_without_strict_findings_are_told_and_the_status_is_0(planted: tuple[str, list[str]], tmp_path: Path) -> None:
    page = tmp_path / "elsewhere.html"
    found, told = run(planted[0], "--out", str(page))
    assert codes(found, "serious")
    assert told.count("serious: ") == 2
    assert page.is_file()
    assert not (Path(planted[0]) / "audit.html").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("without_shortcuts")
def test_on_ray_and_in_this_process_are_the_same(
    planted: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(planted[0])
    here = (Path(planted[0]) / "audit.json").read_bytes()
    monkeypatch.setattr(engine, "SMALL", 0)
    run(planted[0])
    assert (Path(planted[0]) / "audit.json").read_bytes() == here


@pytest.fixture
def without_shortcuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pictures and tables are audited, which takes a fraction of the time."""
    monkeypatch.setattr(engine, "ask", lambda *_: "it was not asked")


@pytest.mark.usefixtures("without_shortcuts")
class TestOfAStudy:
    def test_a_small_dataset_is_audited_once(self, made_up: str, monkeypatch: pytest.MonkeyPatch) -> None:
        info = read_info(made_up)
        first = audited(made_up, info)
        assert first is not None
        assert first["fingerprint"] == info["fingerprint"]
        monkeypatch.setattr(engine, "audit_dataset", None)  # would fail if it were called
        assert audited(made_up, info) == first

    def test_a_changed_dataset_is_audited_again(self, made_up: str) -> None:
        info = read_info(made_up)
        audited(made_up, info)
        changed = info | {"fingerprint": "fedcba9876543210"}
        (Path(made_up) / "dataset.json").write_text(json.dumps(changed))
        again = audited(made_up, changed)
        assert again is not None
        assert again["fingerprint"] == changed["fingerprint"]

    def test_a_large_one_that_has_changed_is_told_to_be_stale(
        self, made_up: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = read_info(made_up)
        assert _state(made_up, info, None) == "missing"
        old = audited(made_up, info)
        monkeypatch.setattr(command, "AUTOMATIC", 10)
        changed = info | {"fingerprint": "fedcba9876543210"}
        assert audited(made_up, changed) == old
        assert _state(made_up, changed, old) == "stale"
        assert _state(made_up, info, old) == "clean"

    def test_the_report_tells_what_was_found(self, planted: tuple[str, list[str]]) -> None:
        info = read_info(planted[0])
        assert _state(planted[0], info, audited(planted[0], info)) == "serious"


def _state(uri: str, info: dict[str, Any], audit: dict[str, Any] | None) -> str:
    """What a report says of a dataset's audit, by the word for it."""
    study_data = object.__new__(StudyData)
    study_data.__dict__.update(
        dataset={"uri": "elsewhere://" + uri, **info, "audit": audit}, document={"experiment": {}}
    )
    return str(audit_note(study_data)["state"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "nowhere"),
        (["{made_up}", "--out", "page.txt"], "--out page.txt: expected a file whose name ends in .html"),
    ],
)
def test_refusals(arguments: list[str], reason: str, made_up: str) -> None:
    done = CliRunner().invoke(app, [argument.format(made_up=made_up) for argument in arguments])
    assert done.exit_code == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (Path(made_up) / "audit.json").exists()


def test_a_missing_table_is_named(made_up: str) -> None:
    (Path(made_up) / "manifest.parquet").unlink()
    done = CliRunner().invoke(app, [made_up])
    assert done.exit_code in {1, 2}
    assert "manifest.parquet" in done.stderr
    assert "Traceback" not in done.stderr
