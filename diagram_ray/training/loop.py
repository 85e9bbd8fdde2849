"""The training of one model, epoch by epoch, on chosen images and patches of a dataset."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diagram_ray.config import AugmentConfig, ExperimentConfig, override
from diagram_ray.data.dataset import TrainingData
from diagram_ray.errors import DiagramError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.augment import draw_transforms, to_device, to_tensor, transform
from diagram_ray.training.sampling import Indices, Purpose, make_schedule, random_for, seed_for
from diagram_ray.training.scoring import probabilities
from diagram_ray.training.step import InnerBatch, Losses, Optimizers, iterate

LOSSES = ("adversarial", "patch", "image", "generator")


class Diverged(DiagramError):  # noqa: N818 - what happened to the trial, and the trial's reason
    """A loss or a score is not a finite number. The message names it, the fold and the epoch."""


def fit_to_data(config: ExperimentConfig, data: TrainingData) -> ExperimentConfig:
    """`config` with the number of classes and the patch size that the data have. Raises ConfigError."""
    sizes = {"model.num_classes": len(data.classes), "model.patch_size": data.patches.shape[-1]}
    return override(config, sizes, "dataset")


class Trainer:
    """One DiaGRAM and its optimizers at an epoch's end, ready for the next epoch.

    `fold` is a part of the seed of everything drawn, and is named in messages. Raises DataError if the training part
    has no patches or too few images.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        data: TrainingData,
        images: Indices,
        patches: Indices,
        fold: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = fit_to_data(config, data)
        self.data = data
        self.fold = fold
        self.device = torch.device(device)
        self.epoch = 0
        """Epochs done."""
        training = self.config.training
        self._schedule = make_schedule(training, fold, images, data.labels, patches, data.patch_labels)
        with _seeded(seed_for(training.seed, fold, Purpose.WEIGHTS), self.device):
            self.model = DiaGRAM(self.config.model)
        # Channels last is a fifth faster on CPUs.
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizers = Optimizers(self.model, training)

    def advance(self) -> dict[str, Any]:
        """Trains one epoch. Its curve row: `fold`, `epoch` (from 1), `loss_*` (None where unused) and `seconds`.

        Each loss is the mean over the epoch's steps. Raises Diverged if one is not finite.
        """
        started = time.perf_counter()
        training = self.config.training
        self._optimizers.scale_learning_rates(self._rate_factor())
        self.model.train()
        with _seeded(seed_for(training.seed, self.fold, Purpose.EPOCH, self.epoch), self.device):
            means = _means(list(self._gradient_steps()))
        self.epoch += 1
        row = {f"loss_{name}": means.get(name) for name in LOSSES}
        self._check_finite({f"{name} loss": value for name, value in means.items()})
        return {"fold": self.fold, "epoch": self.epoch, **row, "seconds": time.perf_counter() - started}

    def score(self, images: Indices) -> NDArray[np.float64]:
        """The probability of the positive class, the last one, of images by index. Raises Diverged if not finite."""
        scores: NDArray[np.float64] = probabilities(self.model, self.data.images, images)[:, -1]
        self._check_finite({"score": float(scores.sum())})
        return scores

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizers and position: training goes on from it bit by bit as if it had not stopped."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self._optimizers.named().items()}
        return {"epoch": self.epoch, "model": self.model.state_dict(), "optimizers": optimizers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` of a trainer with the same configuration and data returned."""
        self.model.load_state_dict(state["model"])
        for name, optimizer in self._optimizers.named().items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.epoch = int(state["epoch"])

    def _rate_factor(self) -> float:
        training = self.config.training
        if training.schedule == "constant":
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * min(self.epoch / training.epochs, 1.0)))

    def _gradient_steps(self) -> Iterator[Losses]:
        k = self.config.training.k
        for first in range(0, self._schedule.inner_steps, k):
            batches = (self._inner_batch(step) for step in range(first, first + k))
            noise = self._noise(self._random(Purpose.GENERATOR_STEP, first))
            yield from iterate(self.model, self._optimizers, batches, noise)

    def _inner_batch(self, step: int) -> InnerBatch:
        random = self._random(Purpose.INNER_STEP, step)
        patches = self._schedule.patch_batch_of(self.epoch, step)
        images = self._schedule.image_batch(self.epoch, step)
        return InnerBatch(
            patches=self._augmented(self.data.patches[patches], random),
            patch_labels=to_device(torch.from_numpy(self.data.patch_labels[patches]), self.device),
            noise=self._noise(random),
            images=self._augmented(self.data.images[images], random),
            image_labels=to_device(torch.from_numpy(self.data.labels[images]), self.device),
        )

    def _augmented(self, pixels: NDArray[np.uint16], random: torch.Generator) -> Tensor:
        batch = to_tensor(pixels, self.device)
        augment = self.config.training.augment
        if augment == NO_AUGMENTATION:
            return batch
        maps = draw_transforms(len(batch), (batch.shape[2], batch.shape[3]), augment, random)
        return transform(batch, to_device(maps, self.device))

    def _noise(self, random: torch.Generator) -> Tensor | None:
        generator = self.model.generator
        if generator is None:
            return None
        return to_device(generator.sample_noise(self.config.training.patch_batch, random), self.device)

    def _random(self, purpose: Purpose, step: int) -> torch.Generator:
        return random_for(self.config.training.seed, self.fold, purpose, self.epoch, step)

    def _check_finite(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"the {name} of fold {self.fold} became {value} in epoch {self.epoch}")


NO_AUGMENTATION = AugmentConfig(rotation=0.0, mirror=False, scale=0.0, shift=0.0)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's own random numbers (initial weights, dropout) from `seed` inside the block, and untouched after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _means(steps: list[Losses]) -> dict[str, float]:
    """The mean of each loss over the steps that have it. The one place of an epoch that waits for the device."""
    means = {}
    for name in LOSSES:
        values = [losses[name] for losses in steps if name in losses]
        if values:
            means[name] = float(torch.stack(values).double().mean())
    return means
