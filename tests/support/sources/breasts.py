"""Breasts as a digitised film has them, drawn in a moment."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DrawBreast = Callable[..., NDArray[np.float32]]


def draw(seed: int = 0, height: int = 300, width: int = 220, label: bool = True) -> NDArray[np.float32]:
    """A left breast: half an ellipse of uneven tissue at the left edge of a dark film, with a bright film label."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    middle = height * random.uniform(0.45, 0.55)
    tall, wide = height * random.uniform(0.3, 0.4), width * random.uniform(0.45, 0.65)
    radius = ((y - middle) / tall) ** 2 + (x / wide) ** 2
    texture = ndimage.gaussian_filter(random.normal(size=(height, width)), 6)
    tissue = 0.45 + 0.15 * texture / texture.std() / 2 + 0.2 * (1 - radius)
    film = 0.02 + 0.004 * random.normal(size=(height, width))
    picture = np.where(radius < 1, np.clip(tissue, 0.2, 0.95), film)
    if label:
        picture[6 : 6 + height // 12, -width // 6 : -6] = 1.0
    return np.asarray(np.clip(picture, 0, 1) * 4095, dtype=np.float32).round()
