"""Small sources of every kind, all of them good: what is damaged afterwards. Only made-up images are in them.

Each is a folder SEEDS/TARGET/NAME. Pictures show a phantom's breast of 64 x 49 pixels.
"""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.parquet.layout import image_schema, patch_schema
from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.inbreast_form import make_phantom
from diagram_ray.data.phantom.patients import plan_patient
from diagram_ray.data.phantom.render import render_view
from diagram_ray.results import Measurement, TrialState
from diagram_ray.study.ledger import open_ledger
from tests.fuzz.spreadsheet import stream, workbook
from tests.support.phantoms.cbis_files import make_cbis_phantom
from tests.support.phantoms.ddsm_files import make_ddsm_phantom
from tests.support.phantoms.ljpeg_encoder import encode
from tests.support.sources.dicom_files import as_bytes, coded, dicom

HEIGHT = 64
CODERS = {
    "JPEGBaselineProcess1": 8, "JPEGLosslessProcess14": 12, "JPEGLosslessProcess14_1": 12, "JPEGLSLossless": 12,
    "JPEGLSNearLossless": 12, "JPEG2000Lossless": 12, "JPEG2000": 12, "RLELossless": 12,
}  # fmt: skip
"""GDCM's name of a transfer syntax -> bits of the pixels."""


def breast() -> NDArray[np.uint16]:
    """A picture (64, 49) of 12 bits in which a breast is found."""
    pixels = render_view(plan_patient(0, 0), 0, 0, 0.3, Grid(HEIGHT)).pixels
    return (pixels.astype(np.float64) * 4095 / pixels.max()).astype(np.uint16)


def pgm(pixels: NDArray[np.unsignedinteger], largest: int = 4095) -> bytes:
    """P5 with two bytes a pixel, or one."""
    kind = ">u2" if largest > 255 else "u1"
    return b"P5\n%d %d\n%d\n" % (*pixels.shape[::-1], largest) + pixels.astype(kind).tobytes()


def make_seeds(root: Path) -> None:
    """Writes all of them."""
    for name, make in MAKERS.items():
        (root / name).mkdir(parents=True)
        make(root / name)


def _class_folders(root: Path, files: dict[str, bytes]) -> None:
    """A source for each file, in which it is a patient's with cancer."""
    for name, data in files.items():
        (root / name / "cancer").mkdir(parents=True)
        (root / name / "benign").mkdir()
        (root / name / "cancer" / f"1_{name}").write_bytes(data)
        (root / name / "benign" / "2_a.pgm").write_bytes(pgm(breast()))


def _dicom(root: Path) -> None:
    pixels, folder = breast(), root
    of_bits = {12: pixels, 8: (pixels >> 4).astype(np.uint8)}
    files = {kind: coded(dicom(of_bits[bits], bits), kind, folder) for kind, bits in CODERS.items()}
    for name, syntax in (("implicit", ImplicitVRLittleEndian), ("big", ExplicitVRBigEndian)):
        files[name] = dicom(pixels.byteswap() if name == "big" else pixels)
        files[name].file_meta.TransferSyntaxUID = syntax
    files["plain"] = dicom(pixels, NumberOfFrames="1", ImageLaterality="L", ViewPosition="CC")
    files["padded"] = dicom(
        pixels, PixelPaddingValue=0, RescaleSlope="2", RescaleIntercept="-5", PixelSpacing=[0.1, 0.1]
    )
    files["sigmoid"] = dicom(pixels, VOILUTFunction="SIGMOID", WindowCenter="2000", WindowWidth="900")
    files["lut"] = dicom(pixels, VOILUTSequence=Sequence([_table()]), ModalityLUTSequence=Sequence([_table()]))
    files["signed"] = dicom(pixels.astype(np.int16) - 2000, 16, PhotometricInterpretation="MONOCHROME1")
    written = {f"{name}.dcm": as_bytes(header) for name, header in files.items()}
    written["bare.dcm"] = written["implicit.dcm"][132:]
    written["packed.dcm.gz"] = gzip.compress(written["plain.dcm"], mtime=0)
    (folder / "plain.dcm").unlink()
    _class_folders(root, written)


def _table() -> Dataset:
    """An item of a look-up table that changes little."""
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 16])
    item.add_new(0x00283006, "OW", np.arange(4096, dtype="<u2").tobytes())
    return item


def _deflated(root: Path) -> None:
    header = dicom(breast())
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    _class_folders(root, {"deflated.dcm": as_bytes(header)})


def _pictures(root: Path) -> None:
    grey, small = breast(), (breast() >> 4).astype(np.uint8)
    files = {
        "16.png": _written(grey, "PNG"), "8.png": _written(small, "PNG"), "8.jpg": _written(small, "JPEG"),
        "rgb.png": _written(np.repeat(small[..., None], 3, axis=2), "PNG"), "8.tif": _written(small, "TIFF"),
        "16.tif": _written(grey, "TIFF"), "lzw.tif": _written(grey, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _written(grey, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": _written(small, "TIFF", compression="packbits"),
        "jpeg.tif": _written(small, "TIFF", compression="jpeg"), "tiles.tif": _tiff(grey, tile=(32, 16)),
        "big.tif": _tiff(grey, byteorder=">"), "float.tif": _tiff(grey.astype(np.float32) / 7),
        "progressive.jpg": _written(small, "JPEG", progressive=True), "palette.png": _palette(small),
        "8.pgm": pgm(small, 255), "16.pgm": pgm(grey), "film.jpg": encode(grey),
        "text.pgm": b"P2 %d %d 4095\n" % grey.shape[::-1] + b" ".join(b"%d" % value for value in grey.ravel()),
    }  # fmt: skip
    files["packed.png.gz"] = gzip.compress(files["16.png"], mtime=0)
    _class_folders(root, files)


def _written(pixels: NDArray[np.generic], kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def _tiff(pixels: NDArray[np.generic], **how: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **how)
    return buffer.getvalue()


def _palette(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("P").save(buffer, "PNG")
    return buffer.getvalue()


def _tables(root: Path) -> None:
    rows = [
        {
            "path": f"scans/{number}.pgm", "patient": f"patient {number // 2}", "label": ("benign", "cancer")[number // 2],
            "laterality": "L", "view": "CC", "density": number + 1, "spacing_mm": 0.07, "top": 20, "left": 2,
            "bottom": 40, "right": 20, "finding": "mass", "note": "nobody reads this, \"ever\"\nreally",
        }
        for number in range(4)
    ]  # fmt: skip
    for kind in ("csv", "parquet"):
        (root / kind / "scans").mkdir(parents=True)
        for number in range(4):
            (root / kind / "scans" / f"{number}.pgm").write_bytes(pgm(np.roll(breast(), number, axis=0)))
    frame = pd.DataFrame(rows)
    frame.to_csv(root / "csv" / "images.csv", index=False)
    frame.to_parquet(root / "parquet" / "images.parquet", index=False)


def _ddsm(root: Path) -> None:
    make_ddsm_phantom(root / "archive", 3, 0, 0.3, HEIGHT, 1)


def _cbis(root: Path) -> None:
    make_cbis_phantom(root / "download", 2, 0, 0.3, HEIGHT, 1)


def _inbreast(root: Path) -> None:
    for name in ("csv", "xls", "bare"):
        make_phantom(root / name, 2, 0, 0.3, HEIGHT, 1)
    table = (root / "xls" / "INbreast.csv").read_text().splitlines()
    header, *rows = [line.split(";") for line in table]
    cells: list[list[str | float]] = [[*header, "Mass ", "Micros"]]
    cells += [[*row[:5], float(row[5]), float(row[6]), row[7], "X", ""] for row in rows]
    for name, write in (("xls", workbook), ("bare", stream)):
        (root / name / "INbreast.csv").unlink()
        (root / name / "INbreast.xls").write_bytes(write(cells))


def _mias(root: Path) -> None:
    (root / "all").mkdir()
    square = np.zeros((HEIGHT, HEIGHT), np.uint8)
    square[:, : breast().shape[1]] = breast() >> 4
    for number in (1, 2, 3):
        (root / "all" / f"mdb{number:03d}.pgm").write_bytes(pgm(square, 255))
    (root / "all" / "mdb004.png").write_bytes(_written(square, "PNG"))
    lines = ["words before", "mdb001 G CIRC B 300 500 90", "mdb002 F NORM", "mdb003 D CALC M 200 450 60",
             "mdb003 D MISC B 350 480 30", "mdb004 G ASYM M *NOTE 3*"]  # fmt: skip
    (root / "all" / "Info.txt").write_text("\n".join(lines) + "\n")


def _dataset(root: Path) -> None:
    """A prepared dataset of four images with a patch each."""
    place, pixels = root / "whole", np.arange(4 * 32 * 24, dtype=np.uint16).reshape(4, 32, 24)
    for folder in ("images", "patches"):
        (place / folder).mkdir(parents=True)
    rows = [
        {"image_id": f"i{n}", "patient_id": f"p{n // 2}", "label": ("negative", "cancer")[n // 2], "density": "AB"[n % 2],
         "birads": float(n), "spacing_mm": 0.07, "inverted": False}
        for n in range(4)
    ]  # fmt: skip
    more = {"kind": "roi", "finding": "mass", "box": [0.0, 0.0, 16.0, 16.0]}
    patches = [{**row, **more, "patch_id": f"{row['image_id']}-000"} for row in rows]
    _shard(place / "images" / "part-00000.parquet", rows, pixels, image_schema(32, 24))
    _shard(place / "patches" / "part-00000.parquet", patches, pixels[:, :16, :16].copy(), patch_schema(16))
    pq.write_table(pa.Table.from_pylist(rows), place / "manifest.parquet")
    pq.write_table(pa.Table.from_pylist([{"path": "a", "reason": "b"}]), place / "rejects.parquet")
    sources = [{"identity": "a", "part": 0, "digest": "b", "manifest": json.dumps(row)} for row in rows]
    pq.write_table(pa.Table.from_pylist(sources), place / "sources.parquet")
    info = {"format_version": 1, "fingerprint": "ab", "classes": ["negative", "cancer"], "image_size": [32, 24],
            "counts": {"images": 4, "patches": 4, "patients": 2, "rejects": 1}}  # fmt: skip
    (place / "dataset.json").write_text(json.dumps(info, indent=1))


def _shard(path: Path, rows: list[dict[str, Any]], pixels: NDArray[np.uint16], schema: pa.Schema) -> None:
    kind = schema.field("pixels").type
    column = pa.ExtensionArray.from_storage(kind, pa.array(list(pixels.reshape(len(rows), -1)), kind.storage_type))
    names = schema.names[:-1]
    columns = [pa.array([row[name] for row in rows], schema.field(name).type) for name in names]
    pq.write_table(pa.Table.from_arrays([*columns, column], schema=schema), path)


def _model(root: Path) -> None:
    import torch

    from diagram_ray.models import DiaGRAM
    from diagram_ray.training.checkpoints.model_folder import ModelCard, write_models

    small = override(ExperimentConfig(), {"model.width": 4, "model.generator_width": 4, "model.latent_size": 4}, "seed")
    torch.manual_seed(0)
    card = ModelCard(small, ("benign", "cancer"), (32, 24), "f" * 16)
    write_models(root / "whole", card, {"model": DiaGRAM(small.model)}, {"model": frozenset({"a", "b"})})


def _study(root: Path) -> None:
    """A study folder, and the file that a study is started with."""
    place = root / "whole"
    place.mkdir()
    space = {
        "training.k": {"type": "int", "low": 1, "high": 4},
        "model.norm": {"type": "categorical", "choices": ["group"]},
    }
    study: dict[str, Any] = {"name": "quick", "base": {"training.epochs": 9}, "space": space, "folds": 5, "trials": 4,
             "ladder": {"rungs": [[5, 1], [5, 9]], "reduction": 3}, "time_budget": "1h30m"}  # fmt: skip
    (place / "quick.yaml").write_text(yaml.safe_dump(study))
    experiment = override(ExperimentConfig(), study["base"], "seed").model_dump(mode="json")
    document = {
        "study": study,
        "experiment": experiment,
        "dataset": {"uri": "x", "fingerprint": "ab"},
        "classes": ["a", "b"],
    }
    (place / "study.yaml").write_text(yaml.safe_dump(document))
    (place / "splits.json").write_text(
        json.dumps({"n_folds": 2, "seed": 0, "fingerprint": "ab", "patients": {"p": 0, "q": 1}})
    )
    (place / "control.json").write_text(json.dumps({"auc_mean": 0.5, "shuffles": [{"seed": 0, "fold_auc": [0.5]}]}))
    trials = {"number": [0, 1], "state": ["COMPLETE", "PRUNED"], "auc_mean": [0.8, 0.7]}
    pd.DataFrame(trials).to_parquet(place / "trials.parquet")
    pd.DataFrame({"trial": [0], "fold": [0], "epoch": [1], "loss_image": [0.5]}).to_parquet(place / "curves.parquet")
    pd.DataFrame({"trial": [0], "image_id": ["i"], "score": [0.5]}).to_parquet(place / "predictions.parquet")
    with open_ledger(place) as ledger:
        for number in range(3):
            ledger.asked(number, {"training.k": number})
            ledger.measured(number, 0, Measurement(2, 1, (0.5, 0.6), (0.5, 0.5), 1.0), "first")
            ledger.ended(number, TrialState.PRUNED, "was worse")


MAKERS: dict[str, Callable[[Path], None]] = {
    "dicom": _dicom, "deflated": _deflated, "pictures": _pictures, "tables": _tables, "ddsm": _ddsm, "cbis": _cbis,
    "inbreast": _inbreast, "mias": _mias, "dataset": _dataset, "model": _model, "study": _study,
}  # fmt: skip
