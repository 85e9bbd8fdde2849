"""Decodes JPEG, JPEG-LS and JPEG 2000 frames with GDCM, in a process of its own that may die of what it is given.

`dicom_frames` starts it as a script. A request is a line of JSON and the coded frame; the answer is the number of
decoded bytes in eight bytes (all ones: it cannot be decoded), then these bytes.
"""

import contextlib
import json
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

SECONDS = 5
"""Seconds of computing that a frame may take, and one more for each PIXELS of it: more than twice what JPEG 2000 takes,
the slowest coder (18 s for noisy 42 million). Then the process ends, even if a decoder is in an endless loop."""
PIXELS = 1_000_000
MEMORY = 3 * 2**29
"""Bytes of address space. JPEG 2000 takes 1.0 * 2**30 of them for 42 million pixels."""
FAILED = 2**64 - 1


def main() -> None:
    """Answers requests until standard input ends."""
    with contextlib.suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline():
        frame = json.loads(line)
        coded = requests.read(frame["bytes"])
        signal.setitimer(signal.ITIMER_PROF, SECONDS + frame["rows"] * frame["columns"] / PIXELS)
        decoded = _decode(coded, frame)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _answer(answers, decoded)


def _answer(answers: BinaryIO, decoded: bytes | None) -> None:
    answers.write(struct.pack(">Q", FAILED if decoded is None else len(decoded)))
    answers.write(decoded or b"")
    answers.flush()


def _decode(coded: bytes, frame: dict[str, Any]) -> bytes | None:
    try:
        text: str | None = _image(coded, frame).GetBuffer()  # the binding gives bytes as a string
        return None if text is None else text.encode("utf-8", "surrogateescape")
    except Exception:  # what GDCM says may quote the file, and nobody could act on it
        return None


def _image(coded: bytes, frame: dict[str, Any]) -> Any:
    import gdcm  # here, because the parent imports this module for its constants

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(coded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((frame["columns"], frame["rows"], 1))
    image.SetDataElement(element)
    monochrome = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(frame["syntax"])))
    bits = frame["stored"]
    image.SetPixelFormat(gdcm.PixelFormat(1, frame["allocated"], bits, bits - 1, frame["signed"]))
    return image


if __name__ == "__main__":
    main()
