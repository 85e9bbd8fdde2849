"""The step from stored DICOM pixels to grey levels: modality table or rescaling, value-of-interest table, padding.

Which grey scale is wanted. A picture for presentation is meant to be seen through its value-of-interest transformation
(DICOM PS3.3 C.11.2): a table, or a window given by centre and width. `preprocessing.standardise` stretches the breast's
own range afterwards, so what matters here is only what a straight line cannot undo:

- A VOI LUT Sequence bends the scale and may turn it round, so it is applied: its first item, because items are
  alternatives and the first is the one shown first. Where there is a window as well, that is an alternative to the
  table, and not used.
- A window with the function SIGMOID bends the scale and cuts nothing off: applied, the first of several.
- A linear window only cuts off what lies beyond it. Dense tissue or skin may lie there, the window is a matter of the
  workstation's taste, and it differs between makers: not applied.

Padding (PS3.3 C.7.5.1.1.2) is what the detector did not see. It becomes black by the file's own polarity, no farther
from the picture's range than a tenth of it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom.library import Dataset
from diagram_ray.errors import DataError

TAGS = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
)
"""The tags of a header that are used here."""
ENDS = (0.1, 99.9)
"""Percentiles of a picture's grey levels that are taken for its range."""
BEYOND = 0.1
"""Part of that range by which padding may lie below it."""
BLOCK = 256
"""Rows that are looked up at a time: places in a table take four times the room of a film."""
MIXED = 0.001
"""Part of the picture that may lie on either side of the padding's values; with more, these are ordinary greys."""

Float = NDArray[np.float32]


def grey_levels(stored: NDArray[np.integer], header: Dataset, inverted: bool) -> Float:
    """The grey levels (H, W) of `stored` pixels. `inverted`: by the header, high levels are dark.

    Raises DataError for a table or a rescaling that cannot be applied.
    """
    padding = _padding(stored, header)
    greys = _of_interest(_rescaled(stored, header), header)
    return greys if padding is None else _blackened(greys, padding, inverted)


def _rescaled(stored: NDArray[np.integer], header: Dataset) -> Float:
    """The modality's table, else its slope and intercept, where the file has them (PS3.3 C.11.1)."""
    if table := _table(header, "ModalityLUTSequence"):
        return _looked_up(stored, table, "Modality")
    slope, intercept = _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)
    if slope == 0:
        raise DataError("(0028,1053) Rescale Slope is 0: every pixel would be the same")
    greys = stored.astype(np.float32)
    if slope != 1:
        greys *= np.float32(slope)
    if intercept != 0:
        greys += np.float32(intercept)
    return greys


def _of_interest(greys: Float, header: Dataset) -> Float:
    if table := _table(header, "VOILUTSequence"):
        return _looked_up(greys, table, "VOI")
    if header.get("VOILUTFunction") != "SIGMOID":
        return greys
    centre, width = _number(header, "WindowCenter", np.nan), _number(header, "WindowWidth", np.nan)
    if not (np.isfinite(centre) and width > 0):
        raise DataError("(0028,1056) VOI LUT Function is SIGMOID, without a window of a width above 0")
    greys -= np.float32(centre)  # in place: the largest films have 160 MiB. PS3.3 C.11.2.1.3.1
    greys *= np.float32(4 / width)
    np.negative(np.clip(greys, -60, 60, out=greys), out=greys)
    np.exp(greys, out=greys)
    greys += 1
    return np.reciprocal(greys, out=greys)


def _table(header: Dataset, name: str) -> Dataset | None:
    """The first item that has a LUT Descriptor; without one there is no table (PS3.3 C.11.1 and C.11.2: type 1)."""
    return next((item for item in header.get(name) or () if item.get("LUTDescriptor") is not None), None)


def _looked_up(values: NDArray[Any], item: Dataset, which: str) -> Float:
    """The table's entry for each value; values beyond its ends have those of the ends (PS3.3 C.11.1.1.1).

    Values that are float32 already are overwritten: the largest films have 160 MiB so.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 2**16
    if not 2 <= count <= 2**16 or not 8 <= bits <= 16:
        raise DataError(f"the {which} LUT has {count} entries of {bits} bits; read are up to 65536 of 8 to 16 bits")
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # a negative number written as if it had no sign
    table = _entries(item.get("LUTData"), count, which).astype(np.float32)
    looked_up = values if values.dtype == np.float32 else np.empty(values.shape, dtype=np.float32)
    for start in range(0, len(values), BLOCK):
        places = np.rint(values[start : start + BLOCK]).astype(np.int64, copy=False) - first
        looked_up[start : start + BLOCK] = table[np.clip(places, 0, count - 1)]
    return looked_up


def _entries(data: Any, count: int, which: str) -> NDArray[np.uint16]:
    """A table's entries, from words or from bytes. Tables of 8 bits may hold two entries in a word."""
    data = b"" if data is None else data
    raw = data if isinstance(data, bytes) else np.atleast_1d(np.array(data)).astype("<u2").tobytes()
    if len(raw) >= 2 * count:
        return np.frombuffer(raw, "<u2", count)
    if len(raw) >= count:
        return np.frombuffer(raw, "u1", count).astype(np.uint16)
    raise DataError(f"the {which} LUT has {len(raw)} bytes, too few for its {count} entries")


def _padding(stored: NDArray[np.integer], header: Dataset) -> NDArray[np.bool_] | None:
    """Where stored pixels are padding; None if nowhere.

    Some files name a value that ordinary pixels have as well, against the standard. Padding lies at one end of the
    scale; what has many pixels on both sides is none.
    """
    value = _stored_value(header, "PixelPaddingValue", stored)
    if value is None:
        return None
    limit = _stored_value(header, "PixelPaddingRangeLimit", stored)
    low, high = sorted((value, value if limit is None else limit))
    below, above = (int(np.count_nonzero(beyond)) for beyond in (stored < low, stored > high))
    if below + above in (0, stored.size) or min(below, above) > MIXED * stored.size:
        return None
    padding = stored >= low
    padding &= stored <= high
    return padding


def _stored_value(header: Dataset, name: str, stored: NDArray[np.integer]) -> int | None:
    """A value of padding as pixels have it: some files write it with the other kind of sign."""
    try:
        value = int(header[name].value)
    except (KeyError, TypeError, ValueError):
        return None
    if np.issubdtype(stored.dtype, np.signedinteger):
        return value - 2**16 if value >= 2**15 else value
    return value + 2**16 if value < 0 else value


def _blackened(greys: Float, padding: NDArray[np.bool_], inverted: bool) -> Float:
    sample = greys[::4, ::4][~padding[::4, ::4]]
    if not len(sample):
        return greys
    low, high = np.percentile(sample, ENDS)
    reach = BEYOND * float(high - low)
    now = float(greys.mean(where=padding, dtype=np.float64))  # a selection would be a copy
    black = np.clip(now, high, high + reach) if inverted else np.clip(now, low - reach, low)
    greys[padding] = np.float32(black)
    return greys


def _number(header: Dataset, name: str, default: float) -> float:
    """The (first) value of a number; `default` where the file has none. Raises DataError if it is none."""
    value = header.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value if isinstance(value, str | float | int) else value[0])
    except (TypeError, ValueError, IndexError):
        number = np.nan
    if not np.isfinite(number):
        raise DataError(f"its {name} is not a number")
    return number
