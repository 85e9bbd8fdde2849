"""A trained model, or the models of a cross-validation's folds together, applied to mammograms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diagram_ray.data.decoding.dicom.kind import USUAL, Allowed
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.preprocessing.standardise import standardise
from diagram_ray.errors import DataError
from diagram_ray.models import DiaGRAM
from diagram_ray.storage.paths import Place, reached
from diagram_ray.training.augment import to_tensor
from diagram_ray.training.checkpoints.model_folder import ModelCard, read_models
from diagram_ray.training.inference.scoring import probabilities


class Predictor:
    """Models of one card; their probabilities are averaged."""

    def __init__(self, card: ModelCard, models: Sequence[DiaGRAM], device: torch.device | str = "cpu") -> None:
        self.card = card
        self.models = [model.to(device) for model in models]

    @classmethod
    def load(cls, folder: str | Place, device: torch.device | str = "cpu") -> "Predictor":
        """The predictor of a model folder, or of a study's best configuration with all its folds. Raises DataError."""
        return cls(*read_models(reached(folder)), device)

    @property
    def cell(self) -> int:
        """Pixels along each side that one position of `local_log_odds` stands for."""
        return self.models[0].classifier.cell

    def read(self, path: str, allowed: Allowed = USUAL) -> NDArray[np.uint16]:
        """An image file as the models were shown theirs: (H, W) uint16. Raises DataError naming the reason.

        `allowed`: DICOM images that are read although they are no mammograms, or FOR PROCESSING.
        """
        return standardise(read_mammogram(path, allowed=allowed), self.card.image_size).pixels

    def predict(self, path: str | Path, allowed: Allowed = USUAL) -> dict[str, Any]:
        """The prediction for an image file: `path`, `probabilities` (class -> P) and `predicted` (the likeliest class).

        `allowed` as in `read`. Raises DataError naming the file and the reason.
        """
        try:
            pixels = self.read(str(path), allowed)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        return {"path": str(path)} | self.describe(self.predict_array(pixels)[0])

    def predict_array(self, pixels: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Class probabilities (N, m) of standardised images (N, H, W), or of one (H, W). Raises DataError."""
        images = pixels[None] if pixels.ndim == 2 else pixels
        if images.dtype != np.uint16 or images.ndim != 3 or images.shape[1:] != self.card.image_size:
            raise DataError(
                f"images of type {pixels.dtype} and shape {pixels.shape}; expected uint16 (N, H, W) with "
                f"(H, W) = {self.card.image_size}"
            )
        every = np.arange(len(images))
        answers = np.stack([probabilities(model, images, every) for model in self.models])
        return np.asarray(answers.mean(axis=0))

    def local_log_odds(self, pixels: NDArray[np.uint16]) -> NDArray[np.float64]:
        """The log-odds (N, m, h, w) of each class at the positions of the networks' last maps; images (N, H, W) uint16.

        They are those of an image that looked everywhere as it does there (`ExtendedClassifier.local_logits`), in the
        mean over the models. With two classes, their mean over the positions is the mean of the models' log-odds for
        the image, except of multi-instance networks, where the likeliest position is the image's. A position stands
        for `cell` pixels along each side, from the top left corner.
        """
        log_odds = []
        for model in self.models:
            weights = next(model.parameters())
            with torch.inference_mode():
                maps = model.eval().features(to_tensor(pixels.copy(), weights.device, weights.dtype))
                log_odds.append(_log_odds(model.classifier.local_logits(maps).double()))
        return np.asarray(torch.stack(log_odds).mean(dim=0).cpu().numpy())

    def describe(self, probabilities: NDArray[np.float64]) -> dict[str, Any]:
        """One image's probabilities by class, and the likeliest class."""
        named = dict(zip(self.card.classes, map(float, probabilities), strict=True))
        return {"probabilities": named, "predicted": max(named, key=named.__getitem__)}


def _log_odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of each class under the softmax of `logits` (N, m, ...), however sure it is."""
    classes = range(logits.shape[1])
    others = [logits[:, [other for other in classes if other != one]].logsumexp(dim=1) for one in classes]
    return logits - torch.stack(others, dim=1)
