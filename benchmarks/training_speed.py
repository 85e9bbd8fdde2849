"""Training and scoring speed on this machine, one thread: `python benchmarks/training_speed.py`, about a minute.

Random pixels, the default minibatches. Prints images per second for each configuration, the median of three epochs.
"""

import statistics
import time

import numpy as np
import torch

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.dataset import TrainingData
from diagram_ray.training.loop import Trainer

IMAGES = 96
CASES = (((128, 96), 8), ((160, 112), 16))


def random_data(size: tuple[int, int]) -> TrainingData:
    """Images and patches without any meaning."""
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 2
    names = np.arange(IMAGES).astype(str)
    return TrainingData(
        images=random.integers(0, 65536, (IMAGES, *size)).astype(np.uint16),
        labels=labels,
        image_ids=names,
        patient_ids=names,
        patches=random.integers(0, 65536, (IMAGES, 32, 32)).astype(np.uint16),
        patch_labels=labels,
        patch_patient_ids=names,
        classes=("negative", "cancer"),
        fingerprint="random",
    )


def main() -> None:
    """Measures each case with and without the GAN."""
    torch.set_num_threads(1)
    everything = np.arange(IMAGES)
    for size, width in CASES:
        for gan in (True, False):
            values = {"model.width": width, "model.generator_width": 8, "model.gan": gan}
            config = override(ExperimentConfig(), values, "benchmark")
            trainer = Trainer(config, random_data(size), everything, everything)
            seconds = [trainer.advance()["seconds"] for _ in range(4)][1:]
            started = time.perf_counter()
            trainer.score(everything)
            scoring = IMAGES / (time.perf_counter() - started)
            training = IMAGES / statistics.median(seconds)
            rows, columns = size
            print(f"{rows}x{columns} width {width} gan {gan}: training {training:.0f}, scoring {scoring:.0f} images/s")


if __name__ == "__main__":
    main()
