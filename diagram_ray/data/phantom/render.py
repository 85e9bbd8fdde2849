"""The step from a patient's plan to the pixels of one view, 14 bits, as a digital unit would store them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diagram_ray.data.phantom.anatomy import Field, Grid, Outline, draw_body, draw_outline, draw_tissue
from diagram_ray.data.phantom.lesions import Finding, add_lesion, draw_lesion, is_cancer
from diagram_ray.data.phantom.patients import VIEWS, PatientPlan, Stream, stream

WHITE = 16383
"""The largest grey level that 14 bits store."""
_GLYPHS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "C": (".####", "#....", "#....", "#....", "#....", "#....", ".####"),
    "M": ("#...#", "##.##", "#.#.#", "#.#.#", "#...#", "#...#", "#...#"),
    "O": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    " ": (".....",) * 7,
}


@dataclass(frozen=True)
class View:
    """One rendered image: (H, W) uint16 and its findings in the pixels' own coordinates."""

    pixels: NDArray[np.uint16]
    findings: list[Finding]


def render_view(plan: PatientPlan, seed: int, view: int, difficulty: float, grid: Grid) -> View:
    """View number `view` of VIEWS. Lesions come last and from their own stream: without them no other pixel changes."""
    side, projection = VIEWS[view]
    body = draw_body(stream(seed, plan.number, Stream.SHAPE))
    outline = draw_outline(stream(seed, plan.number, Stream.SHAPE, 1 + view), projection, body, grid)
    tissue = draw_tissue(stream(seed, plan.number, Stream.TISSUE, view), outline, body, plan.density, grid)
    added, findings = _lesion(plan, seed, view, difficulty, outline, body.depth, grid)
    image = _expose(tissue + added, outline, stream(seed, plan.number, Stream.NOISE, view), grid)
    if side == "R":
        image, findings = image[:, ::-1], [_mirrored(finding, grid) for finding in findings]
    image = _label_film(image, f"{side} {projection}", stream(seed, plan.number, Stream.FILM, view))
    pixels = np.rint(np.clip(image, 0.0, 1.0) * WHITE).astype(np.uint16)
    return View(WHITE - pixels if plan.inverted[view] else pixels, findings)


def _lesion(
    plan: PatientPlan, seed: int, view: int, difficulty: float, outline: Outline, depth: float, grid: Grid
) -> tuple[Field, list[Finding]]:
    """The lesion is drawn once for both views of the breast, where it appears once for each; BI-RADS 1 has none."""
    side, _ = VIEWS[view]
    birads = plan.birads[side]
    if birads == "1":
        return np.zeros(grid.shape, np.float32), []
    rng = stream(seed, plan.number, Stream.LESION, "LR".index(side))
    lesion = draw_lesion(rng, is_cancer(birads), difficulty)
    return add_lesion(stream(seed, plan.number, Stream.LESION, 2 + view), lesion, outline, depth, grid)


def _expose(attenuation: Field, outline: Outline, rng: np.random.Generator, grid: Grid) -> Field:
    """Display curve, blur of 0.3 mm, background level and noise: (H, W) in 0..1."""
    signal = 0.95 * (1.0 - np.exp(-1.1 * attenuation - 0.9 * attenuation**2))
    signal = ndimage.gaussian_filter(signal, 0.3 / grid.spacing)
    level = rng.uniform(0.004, 0.03)
    noise = rng.standard_normal(grid.shape, dtype=np.float32)
    grain = 0.002 + 0.011 * np.sqrt(np.clip(signal, 0.0, None))
    return (level + signal + grain * noise).astype(np.float32)


def _mirrored(finding: Finding, grid: Grid) -> Finding:
    return Finding(finding.name, finding.points * (-1.0, 1.0) + (grid.width, 0.0))


def _label_film(image: Field, text: str, rng: np.random.Generator) -> Field:
    """Burns the view's name into a bright patch in a corner away from the chest wall, in two of three images."""
    show, brightness, jitter = rng.random() < 2 / 3, rng.uniform(0.6, 0.95), rng.integers(0, 4, 2)
    low = rng.random() < 0.5
    if not show:
        return image
    scale = max(1, image.shape[0] // 200)
    letters = np.kron(_letters(text), np.ones((scale, scale), np.float32))
    patch = brightness * (1.0 - 0.8 * np.pad(letters, 2 * scale))
    height, width = patch.shape
    margin = jitter * scale + 3 * scale
    top = image.shape[0] - height - margin[0] if low else margin[0]
    left = margin[1] if text[0] == "R" else image.shape[1] - width - margin[1]
    under = image[top : top + height, left : left + width]
    if np.median(under) > 0.1:
        return image
    labelled = image.copy()
    labelled[top : top + height, left : left + width] = patch
    return labelled


def _letters(text: str) -> Field:
    glyphs = [np.array([[mark == "#" for mark in line] for line in _GLYPHS[letter]]) for letter in text]
    return np.hstack([np.pad(glyph, ((0, 0), (0, 1))) for glyph in glyphs]).astype(np.float32)
