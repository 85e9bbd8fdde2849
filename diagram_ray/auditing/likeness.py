"""How alike two mammograms are, whoever re-encoded, cropped, brightened, squeezed or mirrored one of them.

A picture becomes a *sketch*: its breast, put at the same place and size by the moments of its shape, 64 × 64 pixels, of
which only the local contrast is left. All breasts have about the same outline; the pattern inside is each one's own.
The *hash* has the signs of the sketch's 128 slowest cosine terms. Mirroring a picture changes the sign of every other
term, so the hash of a mirrored picture follows from its hash.

Measured: prepared pictures (mini-MIAS, RSNA, phantoms) with noise of 3 % of the range, another brightness or gamma,
crops and shifts of 1 to 2 % or two thirds of the resolution keep within 27 of the 128 bits and above a correlation of
0.77. Of 58 real films that were re-encoded before they were prepared, 97 to 100 % keep within 28 bits and above 0.7,
after a gamma of 0.75 90 %: preparation then finds another outline. Images of different patients that are within 28 bits
correlate by 0.60 at most, in 2,162 images of four sources.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.fft import dctn

SIDE = 64
"""The side of a sketch in pixels."""
REACH = 1.8
"""A sketch shows the breast's mean position ± this many standard deviations, vertically and horizontally."""
BACKGROUND = 0.004
"""Part of the range up to which a pixel is background."""
FINE, COARSE = 3.0, 6.0
"""Distances in a sketch's pixels: what is wider than about FINE is taken out, and contrast is evened out over
COARSE."""
LEVELS = 32
"""Steps of a sketch's int8 values for one standard deviation."""
BITS = 128
TERMS = 12
"""The hash's cosine terms have at most this many half waves a side."""
FLIPS = ("", "mirrored", "upside down", "turned")
"""How the second of two pictures has to be put to look like the first: as it is, left and right exchanged, ..."""
BLOCKS = 2
"""Sketches are correlated in this many parts a side, each at its best shift: a slight change of scale is shifts."""
SHIFT = 3
"""Sketch pixels by which a part may be shifted."""

Floats = NDArray[np.float32]
Sketches = NDArray[np.int8]
Hashes = NDArray[np.uint64]


def sketch(pixels: NDArray[np.uint16]) -> Sketches:
    """The sketch of a prepared picture (H, W): (64, 64). All zero where there is no breast."""
    grey = _placed(pixels)
    inside = grey > BACKGROUND
    weight = inside.astype(np.float32)
    share = ndimage.gaussian_filter(weight, FINE) + 1e-6
    rest = (grey - ndimage.gaussian_filter(grey * weight, FINE) / share) * weight
    spread = ndimage.gaussian_filter(rest * rest, COARSE) / (ndimage.gaussian_filter(weight, COARSE) + 1e-6)
    even = np.where(ndimage.binary_erosion(inside), rest / (np.sqrt(spread) + 0.01), 0.0)
    return np.clip(np.round(even * LEVELS), -127, 127).astype(np.int8)


def _placed(pixels: NDArray[np.uint16]) -> Floats:
    """The breast at its standard place and size, 0 to 1."""
    inside = pixels > BACKGROUND * 65535
    if not inside.any():
        return np.zeros((SIDE, SIDE), dtype=np.float32)
    (top, bottom), (left, right) = _window(inside.sum(axis=1)), _window(inside.sum(axis=0))
    rows, columns = pixels.shape
    margin = max(0, int(np.ceil(max(-top, -left, bottom - rows, right - columns))))
    padded = np.pad(pixels, margin)
    box = (left + margin, top + margin, right + margin, bottom + margin)
    picture = Image.fromarray(padded.astype(np.float32) / 65535)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), dtype=np.float32)


def _window(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mean ± REACH standard deviations of the positions that are counted."""
    part = counts / counts.sum()
    places = np.arange(len(counts)) + 0.5
    mean = float(part @ places)
    reach = REACH * max(0.5, float(np.sqrt(part @ (places - mean) ** 2)))
    return mean - reach, mean + reach


def hashes(sketches: Sketches) -> Hashes:
    """Perceptual hashes of sketches (N, 64, 64): (N, 2), 64 bits each."""
    terms = dctn(sketches.astype(np.float32), axes=(1, 2), norm="ortho")[:, _ROWS, _COLUMNS]
    return _packed(terms > 0)


def flipped(codes: Hashes, flip: str) -> Hashes:
    """The hashes (N, 2) that the pictures would have if they were flipped as FLIPS says."""
    changed: Hashes = codes ^ _CHANGES[flip]
    return changed


def flip_sketch(sketches: Sketches, flip: str) -> Sketches:
    """The sketches (..., 64, 64) of the flipped pictures."""
    if flip in ("mirrored", "turned"):
        sketches = sketches[..., :, ::-1]
    return sketches[..., ::-1, :] if flip in ("upside down", "turned") else sketches


def correlation(first: Sketches, second: Sketches) -> Floats:
    """How alike N pairs of sketches (N, 64, 64) are: (N,), 1 for equal ones, 0 where one is empty.

    The sum over BLOCKS² parts of each part's correlation at its best shift.
    """
    norm = np.sqrt(_energy(first) * _energy(second))
    size = SIDE // BLOCKS
    total = np.zeros(len(first), dtype=np.float32)
    for top in range(0, SIDE, size):
        for left in range(0, SIDE, size):
            part = np.s_[:, top : top + size, left : left + size]
            total += _best_shift(first[part].astype(np.float32), second[part].astype(np.float32))
    alike: Floats = np.divide(total, norm, out=np.zeros_like(total), where=norm > 0)
    return alike


def _best_shift(first: Floats, second: Floats) -> Floats:
    spectrum = np.fft.rfft2(first) * np.fft.rfft2(second).conj()
    products = np.fft.irfft2(spectrum, s=first.shape[1:])
    near = np.arange(-SHIFT, SHIFT + 1)
    best: Floats = products[:, near][:, :, near].max(axis=(1, 2)).astype(np.float32)
    return best


def _energy(sketches: Sketches) -> Floats:
    flat = sketches.reshape(len(sketches), -1).astype(np.float32)
    energy: Floats = np.einsum("ij,ij->i", flat, flat)
    return energy


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    """(N, 128) bits as (N, 2) words."""
    return np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little")).view(np.uint64)


def _terms() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Half waves (down, across) of the BITS slowest terms but the constant one."""
    rows, columns = np.divmod(np.arange(1, TERMS**2), TERMS)
    slowest = np.argsort(rows**2 + columns**2, kind="stable")[:BITS]
    return rows[slowest], columns[slowest]


_ROWS, _COLUMNS = _terms()
_CHANGES = {
    "": np.zeros(2, dtype=np.uint64),
    "mirrored": _packed((_COLUMNS % 2 == 1)[None])[0],
    "upside down": _packed((_ROWS % 2 == 1)[None])[0],
    "turned": _packed(((_ROWS + _COLUMNS) % 2 == 1)[None])[0],
}
