"""Where a model's answer comes from: each image beside its class activation map (Zhou et al., CVPR 2016)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diagram_ray.evaluation.plots.heatmap import Heat, heatmap_png
from diagram_ray.training.inference.predictor import Predictor

FOLDER = "heatmaps"


class Heatmaps:
    """Writes heatmaps/000001.png, 000002.png, ... in the order of the images.

    Neither names nor pictures tell a file's name: they may be shown to people who are not to know the patient.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self._predictor, self._folder = predictor, folder
        self.count = 0
        (folder / FOLDER).mkdir()

    def write(self, pixels: NDArray[np.uint16], scores: NDArray[np.float64]) -> list[str]:
        """Draws standardised images (N, H, W) whose class probabilities are `scores` (N, m).

        Returns the pictures' paths inside the folder. They show the second of two classes, which is the positive one;
        of more, the likeliest.
        """
        local = self._predictor.local_log_odds(pixels)
        return [self._write(*image) for image in zip(pixels, scores, local, strict=True)]

    def _write(self, pixels: NDArray[np.uint16], scores: NDArray[np.float64], local: NDArray[np.float64]) -> str:
        classes = self._predictor.card.classes
        shown = 1 if len(classes) == 2 else int(scores.argmax())
        heat = Heat(
            local[shown], self._predictor.cell, classes[shown], float(scores[shown]), len(self._predictor.models)
        )
        self.count += 1
        name = f"{FOLDER}/{self.count:06d}.png"
        (self._folder / name).write_bytes(heatmap_png(pixels, heat))
        return name
