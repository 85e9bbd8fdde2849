"""GDCM may crash, hang or hear nothing more: the process that asked goes on, and none is left behind."""

import os
import random
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import get_frame

from diagram_ray.data.decoding.dicom import gdcm_child, gdcm_process
from diagram_ray.data.decoding.dicom.gdcm_process import _child, decode_with_gdcm
from diagram_ray.data.decoding.dicom.image import read_dicom
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, SHAPE, as_bytes, coded, dicom, with_frame

KINDS = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


def request(kind: str = "1.2.840.10008.1.2.4.70") -> dict[str, int | str]:
    return {"rows": SHAPE[0], "columns": SHAPE[1], "syntax": kind, "stored": 12, "allocated": 16, "signed": 0}


@pytest.fixture
def frame(tmp_path: Path) -> bytes:
    return get_frame(coded(dicom(), "JPEGLosslessProcess14_1", tmp_path).PixelData, 0, number_of_frames=1)


def another_child(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """The next child process is this script instead."""
    _child.end()
    start = f"import sys; sys.path.insert(0, {str(Path(gdcm_child.__file__).parent)!r}); import gdcm_child\n"
    (folder / "child.py").write_text(start + textwrap.dedent(script) + "\ngdcm_child.main()\n")
    monkeypatch.setattr(gdcm_child, "__file__", str(folder / "child.py"))


def test_one_process_decodes_frame_after_frame(frame: bytes) -> None:
    decoded = decode_with_gdcm(request(), frame)
    first = _child._process
    np.testing.assert_array_equal(np.frombuffer(decoded, "<u2").reshape(SHAPE), GREY)
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_with_gdcm(request(), b"\xff\xd8" + bytes(100))
    assert decode_with_gdcm(request(), frame) == decoded
    assert _child._process is first


def test_it_keeps_no_memory_of_a_large_frame(monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    decoded = decode_with_gdcm(request(), frame)
    assert _child._process is not None
    monkeypatch.setattr(gdcm_process, "LARGE", GREY.size - 1)
    assert decode_with_gdcm(request(), frame) == decoded
    assert _child._process is None
    monkeypatch.undo()
    assert decode_with_gdcm(request(), frame) == decoded


@pytest.mark.parametrize(
    "script",
    [
        "gdcm_child._decode = lambda *_: __import__('os').abort()",
        "gdcm_child._answer = lambda *_: __import__('os')._exit(0)",
        "gdcm_child._answer = lambda answers, _: (answers.write(bytes(7) + b'x'), answers.flush(), exit())",
        """
        def never(*_):
            while True:
                pass
        gdcm_child.SECONDS, gdcm_child._decode = 1, never
        """,
    ],
    ids=["crash", "no answer", "half an answer", "endless loop"],
)
def test_a_process_that_dies_costs_its_frame_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: bytes, script: str
) -> None:
    with monkeypatch.context() as patched:
        another_child(patched, tmp_path, script)
        with pytest.raises(DataError, match="crashed or took too long"):
            decode_with_gdcm(request(), frame)
    assert len(decode_with_gdcm(request(), frame)) == GREY.nbytes


def test_a_process_that_was_killed_is_started_again(frame: bytes) -> None:
    decode_with_gdcm(request(), frame)
    assert _child._process is not None
    _child._process.kill()
    _child._process.wait()
    assert len(decode_with_gdcm(request(), frame)) == GREY.nbytes


def test_a_frame_too_large_for_memory_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = coded(dicom(np.tile(GREY, (40, 50))), "JPEGLosslessProcess14_1", tmp_path)
    data = as_bytes(header)
    with monkeypatch.context() as patched:
        another_child(patched, tmp_path, "gdcm_child.MEMORY = 2**26")
        with pytest.raises(DataError, match="cannot be decoded"):
            read_dicom(data)
    assert read_dicom(data).pixels.shape == (2560, 2400)


@pytest.mark.parametrize("end", ["", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], ids=["exit", "killed"])
def test_it_ends_with_the_process_that_asked(tmp_path: Path, frame: bytes, end: str) -> None:
    (tmp_path / "frame").write_bytes(frame)
    script = f"""
        from pathlib import Path
        from diagram_ray.data.decoding.dicom.gdcm_process import _child, decode_with_gdcm
        decode_with_gdcm({request()!r}, Path({str(tmp_path / "frame")!r}).read_bytes())
        print(_child._process.pid, flush=True)
        input()
        {end}
    """
    asking = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdin is not None
    assert asking.stdout is not None
    child = os.pidfd_open(int(asking.stdout.readline()))
    asking.stdin.write("\n")
    asking.communicate(timeout=60)
    assert asking.returncode == (-signal.SIGKILL if end else 0)
    ended, _, _ = select.select([child], [], [], 60)
    os.close(child)
    assert ended


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_frames_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    """Single bytes, runs and ends of the coded frame are changed. GDCM aborts on some; the reason is ours."""
    header = coded(dicom(), kind, tmp_path)
    whole = get_frame(header.PixelData, 0, number_of_frames=1)
    choose = random.Random(kind)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        place = choose.randrange(2, choose.choice([120, len(whole)]))
        damaged[place : place + choose.choice([1, 1, 40])] = choose.choice([b"\xff", b"\0", b"", b"\x7f\xff"])
        try:
            assert read_dicom(as_bytes(with_frame(header, bytes(damaged)))).pixels.shape == SHAPE
        except DataError:
            refused += 1
    assert refused > 10
