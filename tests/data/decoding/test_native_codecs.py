"""Machine code is kept where it can be, and made anew where it cannot."""

from pathlib import Path

import numba
import pytest

from diagram_ray.data.decoding.native_codecs import native


def add(first: int, second: int) -> int:
    """The sum."""
    return first + second


def test_machine_code_is_kept_and_damage_to_it_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert native("int64(int64, int64)")(add)(2, 3) == 5
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"damaged")
    again = native("int64(int64, int64)")(add)
    assert again(2, 3) == 5
    assert again.__doc__ == "The sum."


def test_no_folder_to_keep_machine_code_in() -> None:
    """As where neither the package's folder nor the user's own can be written to."""
    made: dict[str, object] = {}
    exec("def double(number):\n    return 2 * number\n", made)
    double = native("int64(int64)")(made["double"])  # type: ignore[arg-type]
    assert double(21) == 42
