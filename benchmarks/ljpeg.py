"""Reading films of DDSM's sizes on one core: `python -m benchmarks.ljpeg`, about half a minute.

Prints megapixels per second of processor time of our decoder, of GDCM (which follows T.81: the same work, other pixels)
and of a bare copy of the pixels.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGLossless, generate_uid

from diagram_ray.data.decoding.ljpeg import decode
from tests.support.phantoms.ljpeg_encoder import encode

CASES = (("HOWTEK, 12 bits", 5491, 2776, 12), ("LUMISYS, 12 bits", 4696, 3024, 12), ("DBA, 16 bits", 4464, 2600, 16))
REPEATS = 3


def film(rows: int, columns: int, bits: int) -> NDArray[np.uint16]:
    """Half an ellipse that fades outward, with the noise of a scanner: about as many bits a pixel as a real film."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) / np.float32(rows)
    light = 0.15 + 0.7 * np.exp(-8 * (y - 0.5) ** 2 - 4 * x**2)
    noise = np.random.default_rng(0).normal(0, 0.003, light.shape)
    return np.asarray(np.clip(light + noise, 0, 1) * (2**bits - 1), dtype=np.uint16)


def wrapped(stream: bytes, rows: int, columns: int) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = JPEGLossless
    header.SOPClassUID = header.SOPInstanceUID = generate_uid()
    header.Rows, header.Columns, header.SamplesPerPixel, header.PhotometricInterpretation = (
        rows,
        columns,
        1,
        "MONOCHROME2",
    )
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PixelData = encapsulate([stream])
    return header


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, rows, columns, bits in CASES:
        pixels = film(rows, columns, bits)
        stream = encode(pixels)
        np.testing.assert_array_equal(decode(stream, pixels.shape), pixels)
        dicom = wrapped(stream, rows, columns)
        speed = {
            "decode": seconds(lambda stream=stream: decode(stream)),
            "GDCM": seconds(lambda dicom=dicom: pixel_array(dicom, decoding_plugin="gdcm")),
            "copy": seconds(pixels.copy),
        }
        rates = ", ".join(f"{what} {pixels.size / 1e6 / taken:.0f}" for what, taken in speed.items())
        print(f"{name}, {rows}x{columns}, {8 * len(stream) / pixels.size:.1f} bits a pixel: {rates} megapixels/s")


if __name__ == "__main__":
    main()
