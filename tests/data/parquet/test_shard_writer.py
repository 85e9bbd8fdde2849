"""Pieces and the shards that are made of them, without Ray."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.data.parquet import shard_writer
from diagram_ray.data.parquet.pieces import Entry, PieceWriter, read_entries
from diagram_ray.data.parquet.shard_writer import plan_shards, write_shard
from diagram_ray.data.preprocessing.prepare_image import Options, Prepared

OPTIONS = Options((8, 6), 16, 2, b"a key of the test", "negative")


def make(number: int, patches: int) -> Prepared:
    random = np.random.default_rng(number)
    image_id = f"image-{number:03d}"
    manifest = {"image_id": image_id, "patient_id": f"p{number % 3}", "label": None if number == 1 else "cancer"}
    rows = [
        {"patch_id": f"{image_id}-{n:03d}", "image_id": image_id, "patient_id": f"p{number % 3}", "label": "cancer",
         "kind": "roi", "finding": None, "box": [0.1, 1 / 3, 2.0, 3.0]}
        for n in range(patches)
    ]  # fmt: skip
    pictures = random.integers(0, 65536, (1 + patches, 16, 16)).astype(np.uint16)
    return Prepared(manifest, pictures[0, :8, :6], rows, pictures[1:])


def save(folder: Path, images: dict[int, int]) -> list[Entry]:
    writer = PieceWriter()
    for number, patches in images.items():
        writer.add(f"identity-{number}", make(number, patches))
    return writer.save(folder)


def test_pieces_are_read_back_and_shards_hold_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of several pieces, some of them left out, in an order of their own, and small row groups."""
    monkeypatch.setattr(shard_writer, "GROUP_BYTES", 2 * 2 * 8 * 6)
    pieces = tmp_path / "pieces"
    written = [*save(pieces, {0: 2, 1: 0, 2: 3}), *save(pieces, {3: 1, 4: 0})]
    assert {entry.identity: entry for entry in read_entries(pieces)} == {entry.identity: entry for entry in written}
    wanted = [written[number] for number in (3, 0, 2)]
    for shard in plan_shards(wanted, OPTIONS):
        (tmp_path / "out" / shard.folder).mkdir(parents=True)
        rows = write_shard(pieces, tmp_path / "out", OPTIONS, shard)
        table = pq.read_table(tmp_path / "out" / shard.name)
        expected = [make(number, patches) for number, patches in ((3, 1), (0, 2), (2, 3))]
        pixels = table["pixels"].combine_chunks().to_numpy_ndarray()
        assert rows == len(table)
        if shard.folder == "images":
            assert table.drop_columns("pixels").to_pylist() == [one.manifest for one in expected]
            np.testing.assert_array_equal(pixels, [one.pixels for one in expected])
            assert pq.ParquetFile(tmp_path / "out" / shard.name).num_row_groups == 2
        else:
            assert table.drop_columns("pixels").to_pylist() == [row for one in expected for row in one.patches]
            np.testing.assert_array_equal(pixels, np.concatenate([one.patch_pixels for one in expected]))


def test_a_dataset_without_patches_has_an_empty_shard_of_them(tmp_path: Path) -> None:
    entries = save(tmp_path / "pieces", {0: 0})
    shards = plan_shards(entries, OPTIONS)
    assert [shard.name for shard in shards] == ["images/part-00000.parquet", "patches/part-00000.parquet"]
    (tmp_path / "patches").mkdir()
    assert write_shard(tmp_path / "pieces", tmp_path, OPTIONS, shards[1]) == 0
    assert pq.read_table(tmp_path / shards[1].name).num_rows == 0


def test_a_piece_that_is_written_twice_is_one_and_half_a_piece_is_none(tmp_path: Path) -> None:
    assert save(tmp_path, {0: 1, 1: 1}) == save(tmp_path, {0: 1, 1: 1})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    (tmp_path / next(name for name in names if "patches" not in name)).unlink()
    assert read_entries(tmp_path) == []
    assert read_entries(tmp_path / "nowhere") == []
    assert PieceWriter().save(tmp_path) == []


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 400))
def test_shards_are_even_and_hold_every_image_once(patches: list[int], limit: int) -> None:
    entries = [Entry(str(n), "", "{}", count, "piece", n) for n, count in enumerate(patches)]
    sizes = {"images": [2 * 8 * 6] * len(patches), "patches": [2 * 16 * 16 * count for count in patches]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "SHARD_BYTES", 100 * limit)
        shards = plan_shards(entries, OPTIONS)
    for folder, of_folder in sizes.items():
        mine = [shard for shard in shards if shard.folder == folder]
        assert [entry for shard in mine for entry in shard.entries] == entries
        assert [shard.number for shard in mine] == list(range(len(mine)))
        assert all(shard.entries for shard in mine)
        target = sum(of_folder) / max(1, round(sum(of_folder) / (100 * limit)))
        held = [sum(of_folder[entry.row] for entry in shard.entries) for shard in mine]
        assert max(held) <= target + 2 * max(of_folder) or len(mine) == len(entries)
        if folder == "images":
            assert max(len(shard.entries) for shard in mine) - min(len(shard.entries) for shard in mine) <= 1
