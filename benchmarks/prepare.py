"""Preparation's speed and memory on this machine: `python -m benchmarks.prepare`, about five minutes.

Films of 4,700 x 2,900 pixels: as DICOM without compression (as CBIS-DDSM has them) and as LJPEG (DDSM). Four different
films under many names, so that the disk's speed does not count. For each kind:

* one process: decoding, standardising and resizing alone, no patches, nothing written, as `python` runs it; and the
  same in a process with the settings of the C library that the platform gives its workers, which make it faster. Both
  are measured before and after the platform
* the platform: `prepare_dataset`, from the index to the finished dataset, one background patch an image. Ray has
  started and its workers have imported what they need, by preparing a few films first: that is not counted
* ratio: the platform's rate over (processors x rate of one process), for either
* memory, of another run with fewer films, because looking at it takes time: the peak, over samples taken every half
  second, of the sum over this process and all its descendants (workers and Ray's own) of their proportional set size
  (/proc/PID/smaps_rollup) without shared memory; that is Ray's object store, which is given beside it
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from scipy import ndimage

from benchmarks.kills import descendants
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.preprocessing.prepare_image import Options
from diagram_ray.data.preprocessing.standardise import standardise
from diagram_ray.data.records import Film, ImageRecord, Index
from diagram_ray.distributed.data_tasks import ALLOCATOR
from diagram_ray.distributed.prepare_dataset import prepare_dataset
from diagram_ray.distributed.session import WORKERS, ray_session
from tests.support.phantoms.ljpeg_encoder import encode

SHAPE = (4700, 2900)
DIFFERENT = 4
ALONE, WATCHED = 60, 70
"""Films of the runs of one process, and, a processor, of the run whose memory is watched."""
OPTIONS = Options((512, 384), 32, 1, b"a key of the benchmark", "benign")


def draw_film(seed: int) -> NDArray[np.uint16]:
    """A breast of smooth tissue and grain on a dark film with a bright label, 12 bits."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    radius = ((y - SHAPE[0] * 0.5) / (SHAPE[0] * 0.35)) ** 2 + (x / (SHAPE[1] * 0.55)) ** 2
    coarse = ndimage.gaussian_filter(random.normal(size=(SHAPE[0] // 20, SHAPE[1] // 20)), 2)
    tissue = ndimage.zoom(coarse / coarse.std(), 20, order=1)
    picture = np.where(radius < 1, np.clip(0.65 - 0.2 * radius + 0.07 * tissue, 0.2, 0.95), 0.02)
    picture += 0.004 * random.standard_normal(SHAPE, dtype=np.float32)
    picture[60:400, -500:-60] = 1
    return (np.clip(picture, 0, 1) * 4095).astype(np.uint16)


def write_dicom(path: Path, pixels: NDArray[np.uint16]) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = SecondaryCaptureImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.Modality, image.SamplesPerPixel, image.PhotometricInterpretation = "MG", 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = (pixels * 16).tobytes()
    image.save_as(path, enforce_file_format=True)


def make_records(folder: Path, kind: str, count: int) -> list[ImageRecord]:
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:05d}.{kind}"
        if number >= DIFFERENT:
            path.hardlink_to(folder / f"{number % DIFFERENT:05d}.{kind}")
        elif kind == "dcm":
            write_dicom(path, draw_film(number))
        else:
            path.write_bytes(encode(draw_film(number), predictor=7, precision=16))
    film = Film(SHAPE, "lumisys") if kind == "LJPEG" else None
    return [
        ImageRecord(str(path), path.stem, f"p{path.stem}", path.stem, "L", "CC", "benign", film=film)
        for path in sorted(folder.iterdir())
    ]


def one_process(records: list[ImageRecord]) -> tuple[float, float]:
    """Seconds an image, by the clock and of the processor, to decode and resize."""
    for record in records[:2]:
        standardise(read_mammogram(record.path, record.film), OPTIONS.image_size, record.laterality)
    clock, processor = time.perf_counter(), time.process_time()
    for record in records:
        standardise(read_mammogram(record.path, record.film), OPTIONS.image_size, record.laterality)
    return (time.perf_counter() - clock) / len(records), (time.process_time() - processor) / len(records)


def family() -> list[int]:
    """This process and its descendants."""
    return [os.getpid(), *descendants(os.getpid())]


def alone(records: list[ImageRecord], variables: dict[str, str]) -> tuple[float, float]:
    """`one_process` in a process of its own."""
    with environment(WORKERS | variables), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(one_process, records).result()


def both_alone(records: list[ImageRecord]) -> NDArray[np.float64]:
    """As `python` runs it and as the workers' settings make it: (2, 2) seconds an image, by clock and of processor."""
    return np.array([alone(records, variables) for variables in ({}, ALLOCATOR)])


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def processor_seconds() -> float:
    """Of this process and its descendants that are alive."""
    ticks = 0
    for process in family():
        try:
            ticks += sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def memory() -> tuple[int, int]:
    """(own, shared) bytes of this process and its descendants: proportional set size, without and of shared memory."""
    total = shared = 0
    for process in family():
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total += sizes.get("Pss", 0)
        shared += sizes.get("Pss_Shmem", 0)
    return total - shared, shared


@contextmanager
def watched_memory() -> Iterator[list[tuple[int, int]]]:
    """Samples that are complete when the block ends."""
    samples, ended = [memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            samples.append(memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def measure(folder: Path, kind: str, count: int, cores: int) -> None:
    records = make_records(folder / kind, kind, count)

    def prepare(films: int) -> None:
        index = Index(records[:films], [], ("benign", "cancer"), kind)
        info = prepare_dataset(index, str(folder / f"{kind}-{films}"), OPTIONS, kind, lambda tally: None)
        assert info["counts"]["images"] == films

    before = both_alone(records[:ALONE])
    with ray_session(num_cpus=cores):
        prepare(8 * cores)
        started, processor = time.perf_counter(), processor_seconds()
        prepare(count)
        clock, processor = time.perf_counter() - started, processor_seconds() - processor
        with watched_memory() as samples:
            prepare(WATCHED * cores)
    after = both_alone(records[:ALONE])
    report(kind, count, cores, (before + after) / 2, (clock, processor), samples)


def report(
    kind: str,
    count: int,
    cores: int,
    single: NDArray[np.float64],
    platform: tuple[float, float],
    samples: list[tuple[int, int]],
) -> None:
    rate, megapixels = count / platform[0], SHAPE[0] * SHAPE[1] / 1e6
    own, shared = max(own for own, _ in samples), max(shared for _, shared in samples)
    print(f"{kind}: {count} films of {SHAPE[0]} x {SHAPE[1]}, {cores} processors")
    print(f"  prepared, start to end: {rate:.2f} films/s, {rate * megapixels:.0f} Mpx/s, in {platform[0]:.1f} s")
    used = 1e3 * platform[1] / count
    for what, (clock, processor) in zip(("as python runs it", "with the workers' settings"), single, strict=True):
        pixels = megapixels / clock
        print(f"  one process {what}, decoding and resizing alone: {1 / clock:.2f} films/s, {pixels:.0f} Mpx/s")
        print(f"    ratio to {cores} x one process: {rate * clock / cores:.2f} by the clock (aim: 0.85)")
        times = f"{1e3 * processor:.0f} ms alone, {used:.0f} ms in all"
        print(f"    processor time a film: {times}: {1e3 * processor / used:.2f}")
    print(f"  peak memory: {own / 2**30:.2f} GiB (aim: 2), and {shared / 2**30:.2f} GiB shared", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        measure(Path(name), "dcm", 500 * cores, cores)
        measure(Path(name), "LJPEG", 300 * cores, cores)


if __name__ == "__main__":
    main()
