"""The contracts of the floors name every room: a package that is added is held by them, or this fails."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
COMMANDS = {"prepare", "audit", "tune", "train", "report", "predict", "reproduce"}
"""They start Ray by way of distributed/."""


def rooms() -> set[str]:
    """The packages and modules at the top."""
    inside = (ROOT / "diagram_ray").iterdir()
    names = {path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").is_file()}
    return {name for name in names if not name.startswith("_")}


def named(contract: str) -> set[str]:
    """The rooms that a contract names."""
    (found,) = (each for each in CONTRACTS if each["name"] == contract)
    texts = [text for layer in found.get("layers", found.get("source_modules")) for text in layer.split("|")]
    return {text.strip().removeprefix("diagram_ray.") for text in texts}


def test_every_room_has_a_floor() -> None:
    assert named("Floors: imports go downward only") == rooms() | {"__main__"}


@pytest.mark.parametrize("library", ["Ray", "Dask"])
def test_every_room_but_distributed_is_kept_from_its_libraries(library: str) -> None:
    assert named(f"Only distributed/ imports {library}") == rooms() - COMMANDS - {"distributed"}
