from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from diagram_ray.data.phantom.inbreast_files import new_dicom
from diagram_ray.data.preprocessing.lesion_masks import DISTORTION, MOST_CANDIDATES, regions
from diagram_ray.data.records import Mask, Region
from diagram_ray.errors import DataError

SHAPE = (120, 80)
Write = Callable[..., str]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """write(pixels, "description") -> the path of a DICOM file."""
    folder = tmp_path_factory.mktemp("masks")
    count = iter(range(10**6))

    def save(pixels: NDArray[np.unsignedinteger], description: str = "") -> str:
        path = folder / f"{next(count)}.dcm"
        image = new_dicom(path, pixels, SecondaryCaptureImageStorage, generate_uid(), bits=8 * pixels.itemsize)
        image.SeriesDescription = description
        image.save_as(path, enforce_file_format=True)
        return str(path)

    return save


def outlined(
    box: tuple[int, int, int, int], shape: tuple[int, int] = SHAPE, value: int = 255, dtype: type = np.uint8
) -> NDArray[np.unsignedinteger]:
    """A mask: a cross that touches all edges of its box."""
    mask = np.zeros(shape, dtype)
    top, left, bottom, right = box
    mask[(top + bottom) // 2, left:right] = value
    mask[top:bottom, (left + right) // 2] = value
    return mask


def crop(seed: int = 0, shape: tuple[int, int] = (40, 50)) -> NDArray[np.unsignedinteger]:
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


def only(*paths: str, shape: tuple[int, int] = SHAPE) -> Region:
    (region,) = regions((Mask(paths, "mass", "benign"),), shape)
    return region


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (1, np.uint8), (65535, np.uint16)])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_mask_is_told_by_its_content(write: Write, value: int, dtype: type, swapped: bool) -> None:
    """Whichever comes first, and whatever the descriptions claim."""
    box = (10, 20, 31, 47)
    paths = [write(outlined(box, value=value, dtype=dtype), "cropped images"), write(crop(), "ROI mask images")]
    region = only(*(reversed(paths) if swapped else paths))
    assert region == Region((10.0, 20.0, 31.0, 47.0), "mass", "benign")


def test_each_mask_gives_a_region_in_order(write: Write) -> None:
    boxes = [(0, 0, 120, 80), (119, 79, 120, 80), (3, 4, 5, 6)]
    masks = tuple(
        Mask((write(outlined(box)),), finding, label)
        for box, finding, label in zip(
            boxes, ("mass", "calcification", "mass"), ("cancer", None, "benign"), strict=True
        )
    )
    found = regions(masks, SHAPE)
    assert [region.box for region in found] == boxes
    assert [(region.finding, region.label) for region in found] == [
        ("mass", "cancer"), ("calcification", None), ("mass", "benign"),
    ]  # fmt: skip
    assert regions((), SHAPE) == ()


SIDES = st.integers(60, 200)


@given(SIDES, SIDES, st.floats(0.4, 2.5), st.floats(-0.8 * DISTORTION, 0.8 * DISTORTION), st.data())
@settings(max_examples=60, deadline=None)
def test_a_mask_at_another_scale_is_brought_to_the_image(
    write: Write, height: int, width: int, scale: float, bend: float, data: st.DataObject
) -> None:
    """The box of the mask that was resized by nearest neighbours, but for a pixel of the coarser of the two."""
    stored = round(height * scale), round(width * scale * (1 + bend))
    if min(stored) < 32 or abs(stored[0] * width / (stored[1] * height) - 1) > DISTORTION:
        return
    top, left = data.draw(st.integers(0, stored[0] - 1)), data.draw(st.integers(0, stored[1] - 1))
    bottom, right = data.draw(st.integers(top + 1, stored[0])), data.draw(st.integers(left + 1, stored[1]))
    mask = np.zeros(stored, np.uint8)
    mask[top:bottom, left:right] = 255
    region = only(write(mask), shape=(height, width))
    rows = (np.arange(height) + 0.5) * stored[0] / height
    columns = (np.arange(width) + 0.5) * stored[1] / width
    resized = mask[rows.astype(int)[:, None], columns.astype(int)[None, :]]
    assert 0 <= region.box[0] < region.box[2] <= height + 1e-6
    assert 0 <= region.box[1] < region.box[3] <= width + 1e-6
    for axis, edges in ((1, region.box[::2]), (0, region.box[1::2])):
        inside = np.flatnonzero(resized.any(axis=axis))
        if len(inside):
            assert abs(inside[0] - edges[0]) <= 1
            assert abs(inside[-1] + 1 - edges[1]) <= 1


def test_a_few_lost_rows_do_not_matter_but_another_image_does(write: Write) -> None:
    box = (10, 20, 31, 47)
    assert only(write(outlined(box, (118, 80)))).box == pytest.approx(box, abs=0.6)
    with pytest.raises(DataError, match=r"mask 1 of 1 \(mass\): is 80 x 120 pixels, which are .* its image, 120 x 80"):
        only(write(outlined(box, (80, 120))))
    assert only(write(outlined(box, (80, 120))), write(outlined(box))).box == box, "the one that fits is taken"


def test_of_two_masks_the_one_that_says_so_is_taken(write: Write) -> None:
    mask, other = write(outlined((1, 1, 9, 9)), "ROI mask images"), write(outlined((2, 2, 4, 4)), "cropped images")
    assert only(mask, other).box == only(other, mask).box == (1.0, 1.0, 9.0, 9.0)
    undecided = write(outlined((3, 3, 4, 4)), "ROI mask images")
    with pytest.raises(DataError, match=r"mask 1 of 1 \(mass\): 2 files are masks, of 120 x 80 and 120 x 80 pixels"):
        only(mask, undecided)


def test_what_is_no_mask_has_a_reason(write: Write, tmp_path: Path) -> None:
    blank, picture = write(np.zeros(SHAPE, np.uint8)), write(crop())
    text = tmp_path / "text.dcm"
    text.write_bytes(b"mask" * 99)
    cases = {
        (blank,): "none of 1 files is a mask; one has 120 x 80 pixels and is blank",
        (write(np.full(SHAPE, 255, np.uint8)), picture): "is blank; one has 40 x 50 pixels and is of many grey levels",
        (picture, write(crop(1))): "none of 2 files is a mask; one has 40 x 50 .* as a crop; one has 40 x 50",
        (str(tmp_path / "missing.dcm"),): "none of 1 files is a mask; cannot be opened",
        (str(text),): "none of 1 files is a mask; ..",
        (): "none of 0 files is a mask",
        (blank,) * (MOST_CANDIDATES + 1): "9 files may be it; at most 8 are read",
    }
    good = Mask((write(outlined((1, 1, 9, 9))),), "mass", "benign")
    for paths, message in cases.items():
        with pytest.raises(DataError, match=rf"^mask 2 of 2 \(calcification\): .*{message}"):
            regions((good, Mask(paths, "calcification", None)), SHAPE)


def test_files_beside_the_mask_that_cannot_be_read_do_not_matter(write: Write, tmp_path: Path) -> None:
    """A crop may be smaller than any mammogram, or damaged."""
    mask, tiny = write(outlined((1, 1, 9, 9))), write(crop(shape=(5, 7)))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(Path(write(crop())).read_bytes()[:900])
    assert only(tiny, mask, str(broken), write(np.zeros((50, 50), np.uint8))).box == (1.0, 1.0, 9.0, 9.0)


@given(st.integers(0, 10_500), st.lists(st.tuples(st.integers(0, 10_499), st.integers(0, 255)), max_size=6))
@settings(max_examples=150, deadline=None)
def test_damaged_files_give_a_reason_or_a_box_inside(write: Write, length: int, changes: list[tuple[int, int]]) -> None:
    path = Path(write(outlined((10, 20, 31, 47))))
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[min(place, len(data) - 1)] = value
    path.write_bytes(data[:length] if length < 10_000 else data)
    try:
        region = only(str(path))
    except DataError:
        return
    assert 0 <= region.box[0] < region.box[2] <= 120
    assert 0 <= region.box[1] < region.box[3] <= 80
