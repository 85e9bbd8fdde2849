"""Gzip is unpacked up to a limit, and damaged data are refused."""

import gzip
import tracemalloc

import pytest

from diagram_ray.data.decoding.gzip import unpacked
from diagram_ray.errors import DataError


def test_gzip_is_unpacked_and_all_else_stays() -> None:
    assert unpacked(gzip.compress(b"film"), 4) == b"film"
    assert unpacked(gzip.compress(b"fi") + gzip.compress(b"lm"), 4) == b"film"
    assert unpacked(b"film", 1) == b"film"
    assert unpacked(b"", 1) == b""


def test_members_may_be_many_but_not_endless() -> None:
    empty = gzip.compress(b"")
    assert unpacked(empty * 9_999 + gzip.compress(b"film"), 4) == b"film"
    with pytest.raises(DataError, match="is gzip of more than 10000 members"):
        unpacked(empty * 10_001, 4)


def test_a_bomb_is_refused_before_it_fills_the_memory() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 65536 bytes"):
        unpacked(bomb, 65536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("damage", [lambda data: data[:-4], lambda data: data[:12], lambda data: data[:-6] + b"123456"])
def test_damaged_data_are_refused(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="not readable as gzip"):
        unpacked(damage(gzip.compress(b"a film " * 100)), 10_000)
