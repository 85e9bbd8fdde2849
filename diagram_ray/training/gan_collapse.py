"""Whether the GAN of a fold is alive: what is measured of it after every epoch, and when it counts as collapsed."""

from typing import Any

import torch
from torch import Tensor

from diagram_ray.config import CollapseConfig
from diagram_ray.errors import DiagramError
from diagram_ray.models import DiaGRAM

SAMPLES = 48
"""Patches, real and generated, that the diversity is measured on."""
TINY = 1e-12
"""What a loss of zero is divided by instead."""


class Collapsed(DiagramError):  # noqa: N818 - what happened to the trial, and the trial's reason
    """A GAN has stopped to learn. The message begins with "GAN collapsed" and names fold, epoch and sign."""


class GanHealth:
    """The health of one fold's GAN, epoch by epoch.

    `real` are patches (N, 1, s, s) to compare with and `noise` the vectors (N, latent size), always the same ones, that
    generated patches are made of; both on the model's device.
    """

    def __init__(self, config: CollapseConfig, fold: int, real: Tensor, noise: Tensor) -> None:
        self._config, self._fold, self._noise = config, fold, noise
        self._of_real = spread(real)
        self._alike = self._lost = 0

    def measure(self, model: DiaGRAM, losses: dict[str, float]) -> dict[str, float | None]:
        """Columns of the curves, from the model and the epoch's mean losses.

        `gan_loss_ratio`: L_d over L_g (Eqs. 5 and 4); 2 where D can only guess, near 0 where G has no chance.
        `gan_diversity`: how far apart generated patches are, relative to real ones; 0 where all are the same. None
        where the real ones do not differ. The model is put into eval mode.
        """
        assert model.generator is not None  # noqa: S101 - without one there is nothing to measure
        model.eval()
        with torch.inference_mode():
            generated = spread(model.generator(self._noise.to(model.generator.start.weight.dtype)))
        diversity = float(generated / self._of_real) if self._of_real > 0 else None
        ratio = losses["adversarial"] / max(losses["generator"], TINY)
        return {"gan_loss_ratio": ratio, "gan_diversity": diversity}

    def check(self, epoch: int, health: dict[str, float | None]) -> None:
        """Raises Collapsed if one sign has been there in each of the last `patience` epochs after the warm-up."""
        limits = self._config
        diversity, ratio = health["gan_diversity"], health["gan_loss_ratio"]
        late = epoch > limits.warmup_epochs
        self._alike = self._alike + 1 if late and diversity is not None and diversity < limits.diversity else 0
        self._lost = self._lost + 1 if late and ratio is not None and ratio < limits.loss_ratio else 0
        what = f"GAN collapsed: fold {self._fold}, epoch {epoch}"
        if self._alike >= limits.patience:
            raise Collapsed(
                f"{what}: generated patches have been alike for {self._alike} epochs (diversity {diversity:.2g} of the "
                f"real patches'; training.collapse.diversity is {limits.diversity:g})"
            )
        if self._lost >= limits.patience:
            raise Collapsed(
                f"{what}: G has had no chance against D for {self._lost} epochs (ratio of their losses {ratio:.2g}; "
                f"training.collapse.loss_ratio is {limits.loss_ratio:g})"
            )

    def state_dict(self) -> dict[str, Any]:
        """The number of epochs for which each sign has been there."""
        return {"alike": self._alike, "lost": self._lost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self._alike, self._lost = int(state["alike"]), int(state["lost"])


def spread(patches: Tensor) -> Tensor:
    """Root mean square distance of two of the patches (N, 1, s, s), per pixel: 0 if all are the same.

    The mean squared difference of two samples is twice their variance, so no pairs have to be made.
    """
    return (2.0 * patches.double().var(dim=0, correction=0)).mean().sqrt()
