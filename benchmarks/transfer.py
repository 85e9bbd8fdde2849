"""The paper in miniature: transfer against training from scratch, and with the GAN against without.

    python -m benchmarks.transfer [--work runs/transfer] [--repeats 5]

Two made-up data sets: 300 patients as on digitised film (a sigmoid characteristic curve, blur and grain, laid over the
phantom's pixels), and 30 other patients as a digital detector sees them. All is small: width 8, 64 x 48 pixels.

1. DiaGRAM, with and without the GAN, by 5-fold cross-validation on the film data set.
2. 5-fold cross-validation on the digital data set, repeated with other folds: from scratch, for 20 and for 40 epochs,
   against F and E of fold k of part 1, fine-tuned on whole images for 20 epochs (paper Sect. 2.4). Each with the
   learning rate, of 3e-4, 1e-3 and 3e-3, that was best for it in a trial run.
3. With and without the GAN on 20, 50 and 100 patients of the film data set, repeated with other folds and seeds.

Prints mean AUC over folds and the difference with its 95 % interval and p by the corrected resampled t test (Nadeau and
Bengio 2003) and by a bootstrap of the patients. What is done is kept in --work, and not done again. About 17 minutes on
two idle cores.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from diagram_ray.config import DataConfig, ExperimentConfig, override
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.evaluation.comparison import Comparison, compare
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.transfer import read_initial, starting_config

FOLDS = 5
FILM_PATIENTS, DIGITAL_PATIENTS = 300, 30
SIZES = (20, 50, 100)
EPOCHS, SHORT, LONG = 10, 20, 40
"""On film; on the digital data set, as fine-tuning has; and twice as many."""
SCRATCH_RATE = 3e-4
FULL = 65535.0
SETTINGS = {
    "model.width": 8,
    "model.generator_width": 8,
    "model.latent_size": 32,
    "training.k": 2,
    "training.schedule": "cosine",
    "training.learning_rate.discriminator": 1e-3,
    "training.learning_rate.classifier": 1e-3,
    "training.learning_rate.generator": 1e-3,
}


@dataclass(frozen=True)
class Job:
    """One cross-validation."""

    data: Path
    film: bool
    seed: int
    """Of folds, weights and minibatches."""
    settings: dict[str, Any]
    patients: int | None = None
    """The first so many; None: all."""
    init_from: Path | None = None
    export: Path | None = None
    """Where the folds' models go."""

    def kept(self, work: Path) -> Path:
        """Where its predictions are kept."""
        return work / "predictions" / f"{hashlib.sha256(repr((self, SETTINGS)).encode()).hexdigest()[:16]}.parquet"


def film(pixels: NDArray[np.uint16], seed: int) -> NDArray[np.uint16]:
    """Pictures (N, H, W) as digitised film shows them: blur, grain, and a curve with a toe and a shoulder."""
    random = np.random.default_rng(seed)
    light = np.stack([gaussian_filter(picture / FULL, 0.6) for picture in pixels])
    light = light + 0.03 * random.standard_normal(light.shape) * np.sqrt(light)
    toe, shoulder = (1.0 / (1.0 + np.exp(-5.0 * (edge - 0.5))) for edge in (0.0, 1.0))
    density = 1.0 / (1.0 + np.exp(-5.0 * (np.clip(light, 0.0, 1.0) - 0.5)))
    return np.asarray(np.rint(FULL * (density - toe) / (shoulder - toe)), dtype=np.uint16)


def read(job: Job) -> TrainingData:
    """The data of a job."""
    data = read_training_data(str(job.data), DataConfig())
    if job.patients is not None:
        chosen = sorted(set(data.patient_ids.tolist()))[: job.patients]
        images, patches = np.isin(data.patient_ids, chosen), np.isin(data.patch_patient_ids, chosen)
        data = replace(
            data,
            images=data.images[images], labels=data.labels[images], image_ids=data.image_ids[images],
            patient_ids=data.patient_ids[images], patches=data.patches[patches],
            patch_labels=data.patch_labels[patches], patch_patient_ids=data.patch_patient_ids[patches],
        )  # fmt: skip
    if job.film:
        data = replace(data, images=film(data.images, 1), patches=film(data.patches, 2))
    return data


def validate(work: Path, job: Job) -> pd.DataFrame:
    """Out-of-fold predictions of a job, with its seed as `repeat`; those that are kept, if it has been done."""
    kept = job.kept(work)
    if not kept.is_file():
        table = _validate(job)
        kept.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
    return pd.read_parquet(kept)


def _validate(job: Job) -> pd.DataFrame:
    import torch

    torch.set_num_threads(1)
    data = read(job)
    splits = make_splits(data, FOLDS, job.seed)
    start = starting_config(job.init_from) if job.init_from is not None else ExperimentConfig()
    given = {key: value for key, value in SETTINGS.items() if job.init_from is None or not key.startswith("model.")}
    config = override(start, given | job.settings | {"training.seed": job.seed}, "benchmark")
    initial = read_initial(job.init_from, config, data, splits) if job.init_from is not None else None
    validation = CrossValidation(config, data, splits, initial=initial)
    for _ in validation.advance(FOLDS, config.training.epochs):
        pass
    if job.export is not None:
        validation.export(job.export)
    return validation.predictions().to_pandas().assign(repeat=job.seed)


def prepare(work: Path) -> tuple[Path, Path]:
    """The two data sets, made unless they are there."""
    made = []
    for name, patients, seed in (("film", FILM_PATIENTS, 1), ("digital", DIGITAL_PATIENTS, 2)):
        out = work / name
        if not (out / "dataset.json").is_file():
            arguments = ["--out", str(out), "--patients", str(patients), "--seed", str(seed), "--image-size", "64x48"]
            subprocess.run([sys.executable, "-m", "diagram_ray.prepare", "phantom", *arguments], check=True)
        made.append(out)
    return made[0], made[1]


def source_models(film_data: Path, work: Path, submit: Callable[[Job], "Future[pd.DataFrame]"]) -> dict[bool, Path]:
    """Part 1: a folder of five folds' models with and one without the GAN."""
    folders = {gan: work / f"film-{'gan' if gan else 'no-gan'}" for gan in (True, False)}
    running = {
        gan: submit(Job(film_data, True, 0, {"model.gan": gan, "training.epochs": EPOCHS}, export=folder))
        for gan, folder in folders.items()
    }
    with_gan, without = running[True].result(), running[False].result()
    show(f"film, {FILM_PATIENTS} patients: without GAN -> with GAN", compare(without, with_gan))
    return folders


def transfer(
    digital: Path, sources: dict[bool, Path], repeats: int, submit: Callable[[Job], "Future[pd.DataFrame]"]
) -> Iterator[dict[str, Any]]:
    """Part 2."""
    rates = {f"training.learning_rate.{step}": SCRATCH_RATE for step in ("discriminator", "classifier")}
    scratch = Job(digital, False, 0, {"training.epochs": SHORT, **rates})
    tuned = Job(digital, False, 0, {"training.epochs": SHORT, "training.k": 1})
    variants = {
        f"scratch, {SHORT} epochs": scratch,
        f"scratch, {LONG} epochs": replace(scratch, settings={"training.epochs": LONG, **rates}),
        f"transfer from film with GAN, {SHORT} epochs": replace(tuned, init_from=sources[True]),
        f"transfer from film without GAN, {SHORT} epochs": replace(tuned, init_from=sources[False]),
    }
    running = {name: [submit(replace(job, seed=seed)) for seed in range(repeats)] for name, job in variants.items()}
    tables = {name: pd.concat([future.result() for future in futures]) for name, futures in running.items()}
    names = list(tables)
    for one in names[:2]:
        for other in names[2:]:
            what = f"digital, {DIGITAL_PATIENTS} patients, {repeats} repeats: {one} -> {other}"
            yield show(what, compare(tables[one], tables[other]))


def gan(film_data: Path, repeats: int, submit: Callable[[Job], "Future[pd.DataFrame]"]) -> Iterator[dict[str, Any]]:
    """Part 3."""
    running = {
        (size, on): [
            submit(Job(film_data, True, seed, {"model.gan": on, "training.epochs": EPOCHS}, patients=size))
            for seed in range(repeats)
        ]
        for size in SIZES
        for on in (False, True)
    }
    tables = {key: pd.concat([future.result() for future in futures]) for key, futures in running.items()}
    for size in SIZES:
        found = compare(tables[size, False], tables[size, True])
        yield show(f"film, {size} patients, {repeats} repeats: without GAN -> with GAN", found)


def show(what: str, found: Comparison) -> dict[str, Any]:
    """Prints a comparison."""
    lines = [f"{what}\n    AUC {found.auc[0]:.3f} -> {found.auc[1]:.3f}"]
    for name, tested in (("corrected t, folds", found.corrected), ("bootstrap, patients", found.patients)):
        d = tested.difference
        lines.append(f"    {name}: {d.value:+.3f}, 95 % interval {d.low:+.3f} to {d.high:+.3f}, p = {tested.p:.4f}")
    print("\n".join(lines), flush=True)
    t = found.corrected
    return {"what": what, "auc": found.auc, "interval": [t.difference.low, t.difference.high], "p": t.p}


def main() -> None:
    """All three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs") / "transfer")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    began = time.perf_counter()
    film_data, digital = prepare(arguments.work)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        submit = partial(pool.submit, validate, arguments.work)
        sources = source_models(film_data, arguments.work, submit)
        results = [*transfer(digital, sources, arguments.repeats, submit), *gan(film_data, arguments.repeats, submit)]
    (arguments.work / "results.json").write_text(json.dumps(results, indent=1))
    print(f"{time.perf_counter() - began:.0f} s on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
