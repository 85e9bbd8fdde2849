"""The command: what it refuses before it starts anything, and one whole run as a user would do it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from diagram_ray.config import DataConfig
from diagram_ray.data.shards import read_training_data
from diagram_ray.prepare import app

REPOSITORY = Path(__file__).resolve().parents[1]


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
        (["mias", "--source", "x", "--table", "t.csv"], "--table t.csv: is for prepare folder, not for prepare mias"),
        (["phantom", "--source", "s3://a/b"], "phantoms are made in a local folder"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(tmp_path: Path, arguments: list[str], reason: str) -> None:
    assert reason in refusal(*arguments, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unknown_formats_and_short_keys(tmp_path: Path) -> None:
    assert "phantom" in refusal("dicomdir", "--out", str(tmp_path / "out"))
    (tmp_path / "key").write_text("short")
    message = refusal("mias", "--source", "x", "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key"))
    assert "has 5 bytes; at least 16 are needed" in message


def test_an_out_that_is_taken_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text("{}")
    assert "already holds a dataset" in refusal("phantom", "--out", str(tmp_path / "out"))


def test_help_needs_neither_torch_nor_ray() -> None:
    script = "import sys, diagram_ray.prepare; print([m for m in ('torch', 'ray') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert "Example: python -m diagram_ray.prepare" in shown.stdout


@pytest.mark.ray
def test_a_table_from_start_to_end(tmp_path: Path) -> None:
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
    (tmp_path / "key").write_text("0123456789abcdef")
    command = [sys.executable, "-m", "diagram_ray.prepare", "folder", "--source", str(tmp_path)]
    command += ["--table", str(tmp_path / "table.csv"), "--out", str(tmp_path / "set" / "out"), "--image-size", "96x64"]
    command += ["--key", str(tmp_path / "key"), "--background-patches", "2", "--json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
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
