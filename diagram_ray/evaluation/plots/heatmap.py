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

from diagram_ray.evaluation.plots.style import BLUE, ORANGE, QUIET, STYLE

HEIGHT = 4.6
"""The height of the image on a picture, in inches."""
SQUAREST = 0.55
"""The least width of the image as a part of its height: the words need it."""
GAP, ABOVE, BELOW, BAR, BESIDE = 0.12, 0.32, 0.55, 0.12, 0.75
"""Inches around images, above them (titles), below them (words), of the legend's bar, and beside it (its words)."""
DOTS = 130
"""Dots per inch of a picture."""
OPAQUE = 0.7
"""The overlay where a map is strongest; where it says nothing the image alone is seen."""
LEAST_SCALE = 2.0
"""Log-odds that the strongest colour stands for, at least (a probability of 0.88): a map that says little is pale."""

COLOURS = LinearSegmentedColormap.from_list("against and for", [BLUE, "white", ORANGE])


@dataclass(frozen=True)
class Heat:
    """The heat map of one image for one class."""

    local: NDArray[np.float64]
    """The log-odds (h, w) of the class at positions of `cell` pixels along each side, from the top left corner."""
    cell: int
    name: str
    """The name of the class."""
    probability: float
    """The probability of the class for the whole image."""
    models: int
    """The number of models of which all this is the mean."""

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
    with rc_context(STYLE | {"axes.grid": False}):
        figure, plain, overlaid, bar = _frame(columns / rows)
        _show(plain, pixels, "what the model is shown")
        _show(overlaid, pixels, f"P({heat.name}) = {heat.probability:.3f}")
        _overlay(overlaid, heat, (rows, columns))
        _legend(figure, bar, heat)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _frame(aspect: float) -> tuple[Figure, Axes, Axes, Axes]:
    """The figure, and places for the image, for the image with its map and for the legend's bar.

    Everything has its own place: to find places that fit takes longer than to draw.
    """
    image = HEIGHT * max(aspect, SQUAREST)
    width, height = 2 * image + 3 * GAP + BAR + BESIDE, HEIGHT + ABOVE + BELOW
    figure = Figure(figsize=(width, height), dpi=DOTS)
    lefts = {GAP: image, 2 * GAP + image: image, 3 * GAP + 2 * image: BAR}
    places = [(left / width, BELOW / height, wide / width, HEIGHT / height) for left, wide in lefts.items()]
    plain, overlaid, bar = (figure.add_axes(place) for place in places)
    return figure, plain, overlaid, bar


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


def _legend(figure: Figure, place: Axes, heat: Heat) -> None:
    bar = figure.colorbar(ScalarMappable(Normalize(-heat.scale, heat.scale), COLOURS), cax=place)
    bar.outline.set_visible(False)
    bar.set_label(f"log-odds of {heat.name} at this place")
    height, width = heat.local.shape
    models = "one model" if heat.models == 1 else f"mean of {heat.models} models"
    words = (
        f"Class activation map, {height} × {width} positions, {models}.\nOrange speaks for {heat.name}, blue against."
    )
    inches = figure.get_size_inches()
    figure.text(GAP / inches[0], (BELOW - GAP) / inches[1], words, fontsize=8, color=QUIET, va="top")
