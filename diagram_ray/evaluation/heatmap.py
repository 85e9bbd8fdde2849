"""An image in grey and, beside it, the same image under the map of what speaks for a class, and against it, where."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from diagram_ray.evaluation.style import BLUE, ORANGE, QUIET, STYLE

HEIGHT = 5.4
"""Of a picture, in inches."""
NARROWEST = 5.6
"""Its width at least, in inches: the words need it."""
DOTS = 130
"""Of a picture, per inch."""
OPAQUE = 0.7
"""The overlay where a map is strongest; where it says nothing the image alone is seen."""
LEAST_SCALE = 2.0
"""Log-odds that the strongest colour stands for, at least (a probability of 0.88): a map that says little is pale."""

COLOURS = LinearSegmentedColormap.from_list("against and for", [BLUE, "white", ORANGE])


@dataclass(frozen=True)
class Heat:
    """One image's map."""

    local: NDArray[np.float64]
    """(h, w): log-odds of the class at positions of `cell` pixels along each side, from the top left corner."""
    cell: int
    name: str
    """The class."""
    probability: float
    """Of the class, for the whole image."""
    models: int
    """How many models' mean all this is."""

    @property
    def scale(self) -> float:
        """The log-odds that the strongest colours stand for."""
        return max(LEAST_SCALE, float(np.abs(self.local).max()))


def upsampled(local: NDArray[np.float64], cell: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A map (h, w) at each pixel of an image of `shape` (H, W), linear between the centres of its positions."""
    centres = [
        np.clip((np.arange(pixels) + 0.5) / cell - 0.5, 0, positions - 1)
        for pixels, positions in zip(shape, local.shape, strict=True)
    ]
    places = np.stack(np.meshgrid(*centres, indexing="ij"))
    return np.asarray(ndimage.map_coordinates(local, places, order=1, mode="nearest"))


def heatmap_png(pixels: NDArray[np.uint16], heat: Heat) -> bytes:
    """The picture, as a PNG file without metadata. `pixels` (H, W) of 0..65535."""
    rows, columns = pixels.shape
    width = 0.86 * HEIGHT * 2 * columns / rows + 1.1
    with rc_context(STYLE | {"axes.grid": False}):
        made = Figure(figsize=(max(width, NARROWEST), HEIGHT), layout="constrained", dpi=DOTS)
        plain, overlaid = made.subplots(1, 2)
        _show(plain, pixels, "what the model is shown")
        _show(overlaid, pixels, f"P({heat.name}) = {heat.probability:.3f}")
        _overlay(overlaid, heat, (rows, columns))
        _legend(made, overlaid, heat)
        file = io.BytesIO()
        made.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _show(axes: Axes, pixels: NDArray[np.uint16], title: str) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=65535, interpolation="bilinear")
    axes.set_title(title)
    axes.set_axis_off()


def _overlay(axes: Axes, heat: Heat, shape: tuple[int, int]) -> None:
    """Pure colours that fade where the map says little: pale ones would veil the tissue."""
    everywhere = upsampled(heat.local, heat.cell, shape) / heat.scale
    painted = np.where((everywhere > 0)[..., None], to_rgba(ORANGE), to_rgba(BLUE))
    painted[..., 3] = OPAQUE * np.abs(everywhere)
    axes.imshow(painted)


def _legend(made: Figure, axes: Axes, heat: Heat) -> None:
    colours = ScalarMappable(Normalize(-heat.scale, heat.scale), COLOURS)
    bar = made.colorbar(colours, ax=axes, fraction=0.05, pad=0.03)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(f"log-odds of {heat.name} at this place")
    height, width = heat.local.shape
    models = "one model" if heat.models == 1 else f"mean of {heat.models} models"
    words = (
        f"Class activation map, {height} × {width} positions, {models}.\nOrange speaks for {heat.name}, blue against."
    )
    made.supxlabel(words, fontsize=8, color=QUIET)
