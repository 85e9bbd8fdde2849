"""The training of one model, epoch by epoch, on chosen images and patches of a dataset."""

import math
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diagram_ray.config import AugmentConfig, ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import ConfigError, DiagramError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.algorithm1 import Optimizers, iterate
from diagram_ray.training.augment import draw_transforms, to_device, to_tensor, transform
from diagram_ray.training.batches import Indices, Purpose, make_schedule, prefetched, random_for, seed_for
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.compiling import compiling, for_training, start_of_step
from diagram_ray.training.device import autocast, deterministic
from diagram_ray.training.early_stopping import BestEpoch, set_aside, validation_score
from diagram_ray.training.gan_collapse import SAMPLES, GanHealth
from diagram_ray.training.gradient_step import GradientStep, Losses
from diagram_ray.training.inference.scoring import probabilities
from diagram_ray.training.objectives import InnerBatch
from diagram_ray.training.optimizers import rate_factor
from diagram_ray.training.parallel.fold_threads import FoldThread
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup, share
from diagram_ray.training.pretrained.loading import start_pretrained
from diagram_ray.training.training_sample import TrainingSample
from diagram_ray.training.weight_averaging import Average

LOSSES = ("adversarial", "patch", "image", "generator")
HEALTH = ("gan_loss_ratio", "gan_diversity")


class Diverged(DiagramError):  # noqa: N818 - what happened to the trial, and the trial's reason
    """A loss or a score is not a finite number. The message names it, the fold and the epoch."""


class Trainer:
    """One DiaGRAM and its optimizers at an epoch's end, ready for the next epoch.

    `fold` is a part of the seed of everything drawn, and is named in messages. `initial` are weights, by their names
    in the model, that training starts with in the place of random ones. The processes of `group` train one model:
    each makes its own Trainer with the same arguments, and all of them call the same methods. Raises DataError if the
    training part has no patches or too few images, ConfigError if batch norm is asked for in more than one process or
    pretrained weights are not there.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        data: TrainingData,
        images: Indices,
        patches: Indices,
        fold: int = 0,
        device: torch.device | str = "cpu",
        initial: Mapping[str, Tensor] | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.config = fit_to_data(config, data)
        self.data = data
        self.fold = fold
        self.device = torch.device(device)
        self.group = group
        _check_norm(self.config, group)
        self.epoch = 0
        """Epochs done."""
        training = self.config.training
        parts = set_aside(data, images, patches, training.validation_part, training.seed, fold)
        self._training_sample = TrainingSample(data, parts.images, training.seed, fold)
        self._schedule = make_schedule(training, fold, parts.images, data.labels, parts.patches, data.patch_labels)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_for(training.seed, fold, Purpose.WEIGHTS))
            self.model = DiaGRAM(self.config.model)
        # Channels last is a fifth faster on CPUs.
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if initial is not None:
            self.model.load_state_dict(self.model.state_dict() | dict(initial))
        else:
            start_pretrained(self.model)
        self.model.features.first(training.freeze).requires_grad_(False)
        self._in_training = for_training(self.model, training.compile)
        self._optimizers = Optimizers(self.model, training)
        self._autocast = autocast(self.device, training.precision)
        self._fitting: dict[str, int] = {}
        """Samples of each kind of gradient step that fit into memory, where they are fewer than a minibatch has."""
        self._average = Average(self.model, training.ema_decay) if training.ema_decay else None
        self._validation = parts.validation
        self._best = BestEpoch(self.model, training.patience) if len(parts.validation) else None
        self._health = self._watched(parts.patches) if self.config.model.gan and training.multi_task else None

    @property
    def result(self) -> DiaGRAM:
        """The model to score and to keep: of the best epoch if there is a validation part, averaged if asked for."""
        return self._best.model if self._best else self.current

    @property
    def current(self) -> DiaGRAM:
        """The model as it is now, averaged if asked for."""
        return self._average.model if self._average else self.model

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of the epoch before, by the name of the gradient step."""
        return {name: optimizer.param_groups[-1]["lr"] for name, optimizer in self._optimizers.named().items()}

    @property
    def best_epoch(self) -> int | None:
        """The epoch that scored best on the validation part, from 1; 0 before the first. None without such a part."""
        return self._best.epoch if self._best else None

    @property
    def stopped(self) -> bool:
        """Whether training has ended early: the epochs that are left change nothing."""
        return self._best is not None and self._best.exhausted(self.epoch)

    def advance(self, thread: FoldThread | None = None) -> dict[str, Any]:
        """Trains one epoch, in `thread`. Returns its row: `fold`, `epoch` (from 1), `loss_*`, `gan_*`, `seconds`.

        `training_auc` is that of `current` on a `TrainingSample`; with a validation part also `validation_auc` and
        `validation_loss`. Each loss is the mean over the epoch's steps. All are None if not used, or after the training
        has stopped early. `gan_*` are those of `GanHealth`. Raises Diverged if a loss is not finite, Collapsed if the
        GAN has collapsed.
        """
        started, training = time.perf_counter(), self.config.training
        means: dict[str, float] = {}
        if not self.stopped:
            gradient_step = self._begin_epoch(thread)
            steps: list[Losses] = []
            updates = self.epoch * self._schedule.inner_steps
            with deterministic(training.deterministic), compiling(training.compile):
                for batches, noise in self._iterations():
                    for losses in iterate(self._in_training, self._optimizers, batches, noise, gradient_step):
                        steps.append(losses)
                        if self._average is not None and "image" in losses:
                            self._average.update(self.model, updates)
                            updates += 1
                means = _means(steps, self.group)
            gradient_step.check()
        self.epoch += 1
        row = {"fold": self.fold, "epoch": self.epoch, **self._measure(means)}
        return {**row, "seconds": time.perf_counter() - started}

    def score(self, images: Indices) -> NDArray[np.float64]:
        """The probability of the positive class, the last one, of images by index. Raises Diverged if not finite."""
        scores: NDArray[np.float64] = probabilities(self.result, self.data.images, images, self.group)[:, -1]
        self._check_finite({"score": float(scores.sum())})
        return scores

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizers and position: training goes on from it bit by bit as if it had not stopped."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self._optimizers.named().items()}
        others = {name: part.state_dict() for name, part in self._others().items()}
        return {"epoch": self.epoch, "model": self.model.state_dict(), "optimizers": optimizers, **others}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` of a trainer with the same configuration and data returned."""
        self.model.load_state_dict(state["model"])
        for name, optimizer in self._optimizers.named().items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, part in self._others().items():
            part.load_state_dict(state[name])
        self.epoch = int(state["epoch"])

    def _others(self) -> dict[str, Average | BestEpoch | GanHealth]:
        """What has a state besides the model and the optimizers."""
        parts = {"average": self._average, "best": self._best, "gan_health": self._health}
        return {name: part for name, part in parts.items() if part is not None}

    def _begin_epoch(self, thread: FoldThread | None) -> GradientStep:
        """Puts the networks into training mode and sets the learning rates. Returns what takes the epoch's steps."""
        training = self.config.training
        self._optimizers.scale_learning_rates(rate_factor(training, self.epoch))
        self._in_training.train()
        self._in_training.features.first(training.freeze).eval()
        splits, begin = self.config.model.norm != "batch", start_of_step(training.compile)
        return GradientStep(self.group, thread, self._fitting, splits, self._autocast, begin)

    def _iterations(self) -> Iterator[tuple[Iterator[InnerBatch], Tensor | None]]:
        """The epoch's iterations of Algorithm 1: the minibatches of k inner steps, and the noise of G's step."""
        k, steps, dropout = self.config.training.k, self._schedule.inner_steps, self._random(Purpose.EPOCH)
        batches: Iterator[InnerBatch] = (self._inner_batch(step, dropout) for step in range(steps))
        if self.device.type == "cuda":  # on CPUs there is nothing that it could overlap with
            batches = prefetched(batches)
        for first in range(0, steps, k):
            yield islice(batches, k), self._noise(self._random(Purpose.GENERATOR_STEP, first))

    def _measure(self, means: dict[str, float]) -> dict[str, Any]:
        """The columns of an epoch's row from `loss_*` on; `means` of the losses are empty if it was not trained."""
        self._check_finite({f"{name} loss": value for name, value in means.items()})
        row: dict[str, Any] = {f"loss_{name}": means.get(name) for name in LOSSES}
        row |= self._examine(means)
        row["training_auc"] = self._training_sample.auc(self.current, self.group) if means else None
        return row | self._validate(trained=bool(means))

    def _validate(self, trained: bool) -> dict[str, float | None]:
        """Scores the validation part, if there is one and the epoch was trained, and keeps the best epoch's weights."""
        if self._best is None:
            return {}
        if not trained:
            return {"validation_auc": None, "validation_loss": None}
        predicted = probabilities(self.current, self.data.images, self._validation, self.group)
        self._check_finite({"validation score": float(predicted.sum())})
        score = validation_score(self.data.labels[self._validation], predicted)
        self._best.see(self.epoch, score, self.current)
        return {"validation_auc": score.auc, "validation_loss": -score.negative_loss}

    def _watched(self, patches: Indices) -> GanHealth:
        """What watches over the GAN: compares with the same random ones of the training's `patches` every epoch."""
        random = self._random(Purpose.HEALTH)
        chosen = patches[torch.randperm(len(patches), generator=random)[:SAMPLES].numpy()]
        assert self.model.generator is not None  # noqa: S101 - callers ask first
        noise = to_device(self.model.generator.sample_noise(SAMPLES, random), self.device)
        real = to_tensor(self.data.patches[chosen], self.device)
        return GanHealth(self.config.training.collapse, self.fold, real, noise)

    def _examine(self, means: dict[str, float]) -> dict[str, float | None]:
        """The GAN's health after an epoch that had losses, the same in all processes. Raises Collapsed."""
        if self._health is None or not means:
            return dict.fromkeys(HEALTH)
        health = self.group.from_first(self._health.measure(self.model, means))
        self._health.check(self.epoch, health)
        return health

    def _inner_batch(self, step: int, dropout: torch.Generator) -> InnerBatch:
        """Everything is drawn for the whole minibatch, whichever share of it is this process's."""
        random = self._random(Purpose.INNER_STEP, step)
        patches = self._schedule.patch_batch_of(self.epoch, step)
        images = self._schedule.image_batch(self.epoch, step)
        kept = self.model.classifier.sample_dropout(len(images), dropout)
        return InnerBatch(
            patches=self._augmented(self.data.patches, patches, random),
            patch_labels=self._shared(torch.from_numpy(self.data.patch_labels[patches])),
            noise=self._noise(random),
            images=self._augmented(self.data.images, images, random),
            image_labels=self._shared(torch.from_numpy(self.data.labels[images])),
            dropout=None if kept is None else self._shared(kept),
            m=len(patches),
            n=len(images),
        )

    def _augmented(self, pixels: NDArray[np.uint16], drawn: Indices, random: torch.Generator) -> Tensor:
        """This process's share of the images or patches `drawn`."""
        precision = next(self.model.parameters()).dtype
        batch = to_tensor(pixels[drawn[share(len(drawn), self.group)]], self.device, precision)
        augment = self.config.training.augment
        if augment == NO_AUGMENTATION or not len(drawn):
            return batch
        maps = draw_transforms(len(drawn), (batch.shape[2], batch.shape[3]), augment, random)
        return transform(batch, self._shared(maps).to(batch.dtype)) if len(batch) else batch

    def _noise(self, random: torch.Generator) -> Tensor | None:
        generator = self.model.generator
        if generator is None:
            return None
        return self._shared(generator.sample_noise(self.config.training.patch_batch, random))

    def _shared(self, drawn: Tensor) -> Tensor:
        """This process's share of what was drawn on the CPU, on the device."""
        return to_device(drawn[share(len(drawn), self.group)], self.device)

    def _random(self, purpose: Purpose, *step: int) -> torch.Generator:
        return random_for(self.config.training.seed, self.fold, purpose, self.epoch, *step)

    def _check_finite(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"the {name} of fold {self.fold} became {value} in epoch {self.epoch}")


NO_AUGMENTATION = AugmentConfig(rotation=0.0, mirror=False, scale=0.0, shift=0.0)


def _means(steps: list[Losses], group: ProcessGroup) -> dict[str, float]:
    """Of the steps that have a loss, of all processes; the one place of an epoch that waits for the device."""
    values = {name: [losses[name] for losses in steps if name in losses] for name in LOSSES}
    means = {name: torch.stack(losses).double().mean() for name, losses in values.items() if losses}
    return dict(zip(means, group.sum(torch.stack(list(means.values()))).tolist(), strict=True))


def _check_norm(config: ExperimentConfig, group: ProcessGroup) -> None:
    if config.model.norm == "batch" and group.world_size > 1:
        raise ConfigError(
            f"model.norm: batch: one model is trained by {group.world_size} processes, and batch norm would need the "
            "minibatches of all of them in one place; set model.norm: group"
        )
