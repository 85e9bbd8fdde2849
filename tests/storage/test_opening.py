"""Places that need packages which are not installed: one sentence says how to get them."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diagram_ray import audit, prepare
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.parquet.layout import check_vacant, read_info
from diagram_ray.data.readers import ReaderOptions, open_index
from diagram_ray.errors import DataError
from diagram_ray.storage.object_store import EXTRAS
from diagram_ray.storage.opening import open_place
from tests.support.repository import ROOT

PYPROJECT = ROOT / "pyproject.toml"
PLACES = {"gs://bucket/x": "gcs", "gcs://bucket/x": "gcs", "abfs://box/x": "azure", "az://box/x": "azure"}


@pytest.fixture(autouse=True)
def _without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)


def use(format_: str) -> Callable[[str], object]:
    return lambda uri: open_index(format_, uri, ReaderOptions())


@pytest.mark.parametrize(("uri", "extra"), PLACES.items())
@pytest.mark.parametrize(
    "used",
    [open_place, read_info, check_vacant, *map(use, ("ddsm", "cbis-ddsm", "inbreast", "mias", "folder"))],
)
def test_whoever_opens_it_says_which_extra_is_missing(used: Callable[[str], object], uri: str, extra: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"{uri}: cannot be opened: its packages are missing: ")) as caught:
        used(uri)
    assert str(caught.value).endswith(f"pip install 'diagram_ray[{extra}]'")


def test_a_single_image_and_a_table_say_it_too() -> None:
    with pytest.raises(
        DataError, match=r"^cannot be opened: its packages are missing: pip install 'diagram_ray\[gcs\]'"
    ):
        read_mammogram("gs://bucket/a.dcm")
    with pytest.raises(DataError, match=r"abfs://box/t\.csv: cannot be opened: its packages are missing"):
        open_index("folder", str(Path(__file__).parent), ReaderOptions(table="abfs://box/t.csv"))


def test_the_commands_end_with_that_sentence(tmp_path: Path) -> None:
    runs = [
        (prepare.app, ["mias", "--source", "gs://bucket/mias", "--out", str(tmp_path / "out")]),
        (prepare.app, ["mias", "--source", str(tmp_path), "--out", "gs://bucket/out"]),
        (audit.app, ["gs://bucket/data"]),
    ]
    for app, arguments in runs:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        assert "pip install 'diagram_ray[gcs]'" in result.stderr
        assert "Traceback" not in result.stderr


def test_the_extras_are_those_that_can_be_installed() -> None:
    declared = re.search(r"\[project\.optional-dependencies\]\n(.*?)\n\n", PYPROJECT.read_text(), re.DOTALL)
    assert declared
    assert set(EXTRAS.values()) <= set(re.findall(r"^(\w+) = ", declared[1], re.MULTILINE))


def test_other_unknown_places_are_told_as_they_are() -> None:
    with pytest.raises(DataError, match=r"nowhere://x: cannot be opened: ValueError: Protocol not known: nowhere"):
        open_place("nowhere://x")
