"""The command: what it refuses before it starts anything, and one whole run as a user would do it."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage
from rich.console import Console
from typer.testing import CliRunner

import diagram_ray.prepare
from diagram_ray import cli
from diagram_ray.config import DataConfig
from diagram_ray.data.parquet.layout import read_rejects
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.parquet.progress import PreparationProgress
from diagram_ray.data.readers import ReaderOptions, open_index, root_of
from diagram_ray.data.records import Index
from diagram_ray.prepare import PUBLIC_KEY, DatasetPlan, _progress, app
from tests.support.phantoms.cbis_files import make_cbis_phantom
from tests.support.phantoms.ddsm_files import make_ddsm_phantom
from tests.support.repository import ROOT
from tests.support.sources.breasts import draw
from tests.support.sources.dicom_files import as_bytes, dicom


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own key is not that of whoever runs the tests."""
    place = tmp_path_factory.mktemp("home") / "patient.key"
    monkeypatch.setenv("DIAGRAM_RAY_KEY", str(place))
    return place


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["mias"], "--source is missing"),
        (["mias", "--source", "nowhere"], "nowhere: no such folder"),
        (["mias", "--source", "nonsense://a"], "nonsense://a: cannot be opened"),
        (["folder", "--source", "x", "--image-size", "512"], "--image-size '512': expected HEIGHTxWIDTH"),
        (["folder", "--source", "x", "--image-size", "16x512"], "--image-size '16x512'"),
        (["folder", "--source", "x", "--patch-size", "40"], "--patch-size 40: must be a multiple of 16"),
        (["folder", "--source", "x", "--key", "missing.key"], "--key missing.key: cannot be read"),
        (["mias", "--source", "x", "--table", "t.csv"], "--table is for prepare folder, not for prepare mias"),
        (
            ["mias", "--source", "x", "--keep-columns", "a"],
            "--keep-columns is for prepare folder, not for prepare mias",
        ),
        (["cbis-ddsm", "--source", "x", "--normals"], "--normals is for prepare ddsm, not for prepare cbis-ddsm"),
        (
            ["mias", "--source", "x", "--any-modality"],
            "--any-modality is for prepare cbis-ddsm or inbreast or folder, not for prepare mias",
        ),
        (["phantom", "--for-processing"], "--for-processing is for prepare cbis-ddsm or inbreast or folder, not for"),
        (["folder", "--source", "x", "--patients", "9"], "--patients is for prepare phantom, not for prepare folder"),
        (["ddsm"], "prepare ddsm: --source is missing"),
        (["ddsm", "--source", "nowhere"], "nowhere: no such folder"),
        (["phantom", "--source", "s3://a/b"], "phantoms are made in a local folder"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(tmp_path: Path, arguments: list[str], reason: str, own_key: Path) -> None:
    assert reason in refusal(*arguments, "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
    assert not own_key.exists()


def test_unknown_formats_and_short_keys(tmp_path: Path) -> None:
    assert "phantom" in refusal("dicomdir", "--out", str(tmp_path / "out"))
    (tmp_path / "key").write_text("short")
    message = refusal("mias", "--source", "x", "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key"))
    assert "has 5 bytes; a key has at least 16" in message


def test_an_out_that_is_taken_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text("{}")
    assert "already holds a dataset" in refusal("phantom", "--out", str(tmp_path / "out"))


def test_help_needs_neither_torch_nor_ray() -> None:
    script = "import sys, diagram_ray.prepare; print([m for m in ('torch', 'ray') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert "Example: python -m diagram_ray.prepare" in shown.stdout


@pytest.mark.ray
def test_a_table_from_start_to_end(tmp_path: Path, own_key: Path) -> None:
    lines = ["path,patient,label,density,top,left,bottom,right"]
    for number in range(8):
        y, x = np.mgrid[:240, :180]
        noise = np.random.default_rng(number).normal(150, 25, y.shape)
        film = np.where(((y - 120) / 90) ** 2 + (x / 110) ** 2 < 1, noise, 5).clip(0, 255).astype(np.uint8)
        Image.fromarray(film if number % 3 else 255 - film).save(tmp_path / f"film{number}.png")
        label, density = ("cancer", "negative")[number % 2], "ab"[number // 2 % 2]
        lines.append(f"film{number}.png,doe-{number // 2},{label},{density},100,20,130,60")
    lines.append("../film0.png,thief,cancer,a,,,,")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    command = [sys.executable, "-m", "diagram_ray.prepare", "folder", "--source", str(tmp_path)]
    command += ["--table", str(tmp_path / "table.csv"), "--out", str(tmp_path / "set" / "out"), "--image-size", "96x64"]
    command += ["--background-patches", "2", "--keep-columns", "density", "--json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    info = json.loads(result.stdout.splitlines()[-1])
    assert info == json.loads((tmp_path / "set" / "out" / "dataset.json").read_text())
    assert info["counts"] == {
        "images": 8, "patients": 4, "patches": 24, "rejects": 1, "labels": {"cancer": 4, "negative": 4},
    }  # fmt: skip
    data = read_training_data(str(tmp_path / "set" / "out"), DataConfig())
    assert data.classes == ("negative", "cancer")
    assert data.images.shape == (8, 96, 64)
    assert np.bincount(data.patch_labels).tolist() == [4 + 16, 4]
    assert "doe" not in result.stdout
    assert "doe" not in result.stderr
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["out"]
    density = read_training_data(str(tmp_path / "set" / "out"), DataConfig(target="density"))
    assert density.classes == ("a", "b")
    assert own_key.stat().st_mode & 0o777 == 0o600
    assert "preparing images 8 of 8" in result.stderr
    assert "writing shards 2 of 2" in result.stderr
    again = subprocess.run([*command, "--update"], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stderr
    assert "nothing has changed" in again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == info


@pytest.mark.ray
def test_other_kinds_of_dicom_are_taken_when_asked_for(tmp_path: Path, own_key: Path) -> None:
    kinds: dict[str, dict[str, object]] = {
        "mg": {"Modality": "MG"},
        "raw": {"Modality": "MG", "PresentationIntentType": "FOR PROCESSING"},
        "ct": {"Modality": "CT", "SOPClassUID": CTImageStorage},
    }
    for label in ("benign", "malignant"):
        (tmp_path / "films" / label).mkdir(parents=True)
        for number, (kind, changes) in enumerate(kinds.items()):
            file = tmp_path / "films" / label / f"{label}{number}_{kind}.dcm"
            file.write_bytes(as_bytes(dicom(draw(number, 240, 180).astype(np.uint16), **changes)))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "diagram_ray.prepare", "folder", "--source", str(tmp_path / "films")]
    command += ["--out", str(out), "--image-size", "96x64", "--for-processing", "--json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    info = json.loads(result.stdout.splitlines()[-1])
    assert info["allowed"] == {"any_modality": False, "for_processing": True}
    assert (info["counts"]["images"], info["counts"]["rejects"]) == (4, 2)
    reasons = set(read_rejects(str(out))["reason"])
    assert reasons == {
        "is not a mammogram: (0008,0016) SOP Class is CT Image Storage, (0008,0060) Modality is CT; "
        "--any-modality takes other kinds of image, too"
    }


def test_phantoms_that_are_there_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that a run which was cut off has left; they go when the dataset is whole."""
    prepared: list[tuple[Path, list[str]]] = []

    def prepare_index(index: Index, out: str, source_format: str, root: str, plan: DatasetPlan) -> dict[str, Any]:
        assert (index.name, source_format, plan.key) == ("phantom", "phantom", PUBLIC_KEY)
        prepared.append((Path(root), [record.path for record in index.records]))
        if len(prepared) == 1:
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr(diagram_ray.prepare, "prepare_index", prepare_index)
    arguments = ["phantom", "--out", str(tmp_path / "out"), "--patients", "2"]
    assert CliRunner().invoke(app, arguments).exit_code == 130
    (raw,) = tmp_path.iterdir()
    times = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    monkeypatch.setattr("diagram_ray.data.phantom.inbreast_form.write_patients", None)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert prepared[0] == prepared[1]
    assert len(prepared[0][1]) == 8
    assert times
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, [*arguments[:-1], "3"]).exit_code == 1, "others are made anew, which fails here"


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    screen = io.StringIO()
    for terminal in (True, False):
        monkeypatch.setattr(cli, "stderr", Console(file=screen, force_terminal=terminal, width=150))
        with _progress() as show, caplog.at_level("INFO", "diagram_ray"):
            for tally in (
                PreparationProgress("preparing images", 5, 20),
                PreparationProgress("preparing images", 12, 20, 3, 90.0),
                PreparationProgress("preparing images", 20, 20, 4, 200.0),
                PreparationProgress("writing shards", 1, 2),
                PreparationProgress("writing shards", 2, 2),
            ):
                show(tally)
        if terminal:
            assert caplog.text == ""
            assert re.search(
                r"preparing images.*20/20.*0:00:00.*files/s, .* megapixels/s, 4 rejected", screen.getvalue()
            )
            assert re.search(r"writing shards.*2/2", screen.getvalue())
    assert [re.sub(r"[\d.]+(?= files| mega)", "N", message) for message in caplog.messages] == [
        "preparing images 20 of 20: N files/s, N megapixels/s, 4 rejected",
        "writing shards 2 of 2",
    ]


def test_every_format_has_its_reader(tmp_path: Path) -> None:
    make_ddsm_phantom(tmp_path / "ddsm", 3, 0, height=104, workers=1)
    make_cbis_phantom(tmp_path / "cbis", 2, 0, height=104, workers=1)
    for format_, asked, classes in (
        ("ddsm", ReaderOptions(), ("benign", "cancer")),
        ("ddsm", ReaderOptions(normals=True), ("negative", "cancer")),
        ("cbis-ddsm", ReaderOptions(), ("benign", "cancer")),
    ):
        source = str(tmp_path / format_.removesuffix("-ddsm"))
        index = open_index(format_, source, asked)
        assert index.classes == classes
        assert all(record.path.startswith(f"{root_of(source)}/") for record in index.records)
