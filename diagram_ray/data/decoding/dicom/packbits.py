"""Run-length coded bytes (PackBits, DICOM PS3.5 annex G.3), unpacked with a limit."""

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.native_codecs import READ_ONLY_BYTES, native


def unpack(packed: bytes, count: int) -> tuple[NDArray[np.uint8], int]:
    """The first `count` bytes of what is packed, and how many of them there are."""
    unpacked = np.zeros(count, dtype=np.uint8)
    return unpacked, _unpack(np.frombuffer(packed, np.uint8), unpacked)


@native(f"int64({READ_ONLY_BYTES}, Array(uint8, 1, 'C'))")
def _unpack(packed: NDArray[np.uint8], unpacked: NDArray[np.uint8]) -> int:
    place, done = 0, 0
    while place < len(packed) and done < len(unpacked):
        head = int(packed[place])
        place += 1
        if head < 128:  # that many bytes and one more, as they are
            length = min(head + 1, len(packed) - place, len(unpacked) - done)
            unpacked[done : done + length] = packed[place : place + length]
            place += head + 1
            done += length
        elif head > 128 and place < len(packed):  # one byte, several times
            length = min(257 - head, len(unpacked) - done)
            unpacked[done : done + length] = packed[place]
            place += 1
            done += length
    return done
