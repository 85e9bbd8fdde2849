import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.config import AugmentConfig
from diagram_ray.training.augment import draw_transforms, to_tensor, transform

CPU = torch.device("cpu")
NONE = {"rotation": 0.0, "mirror": False, "scale": 0.0, "shift": 0.0}


def smooth(height: int, width: int) -> torch.Tensor:
    """A blob off the centre: (1, 1, H, W) in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return (2 * torch.exp(-((x - 0.2) ** 2 + (y + 0.1) ** 2) * 8) - 1)[None, None]


def drawn(count: int, size: tuple[int, int], seed: int = 0, **settings: object) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return draw_transforms(count, size, AugmentConfig.model_validate(NONE | settings), random)


def test_pixels_become_floats_from_minus_one_to_one() -> None:
    pixels = np.array([[[0, 65535], [32768, 1]]], dtype=np.uint16)
    values = to_tensor(pixels, CPU)
    assert values.shape == (1, 1, 2, 2)
    assert values.flatten().tolist() == pytest.approx([-1.0, 1.0, 2 * 32768 / 65535 - 1, 2 / 65535 - 1], abs=1e-6)


@given(st.integers(16, 40), st.integers(16, 40))
@settings(max_examples=20, deadline=None)
def test_no_augmentation_is_the_identity(height: int, width: int) -> None:
    pixels = torch.rand(3, 1, height, width) * 2 - 1
    torch.testing.assert_close(transform(pixels, drawn(3, (height, width))), pixels, rtol=0, atol=1e-4)


@given(st.integers(16, 40), st.integers(16, 40))
@settings(max_examples=20, deadline=None)
def test_a_mirror_reverses_columns_and_twice_is_the_identity(height: int, width: int) -> None:
    pixels = torch.rand(1, 1, height, width) * 2 - 1
    maps = drawn(16, (height, width), mirror=True)
    mirrored = maps[maps[:, 0, 0] < 0][:1]
    once = transform(pixels, mirrored)
    torch.testing.assert_close(once, pixels.flip(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(transform(once, mirrored), pixels, rtol=0, atol=2e-4)


def test_half_of_the_batch_is_mirrored() -> None:
    assert 0.45 < (drawn(2000, (32, 32), mirror=True)[:, 0, 0] < 0).float().mean() < 0.55


def test_a_rotation_there_and_back_is_the_identity_on_any_aspect_ratio() -> None:
    pixels = smooth(96, 64)
    maps = drawn(1, (96, 64), seed=3, rotation=30.0)
    linear = torch.linalg.inv(maps[:, :, :2])
    back = torch.cat([linear, torch.zeros(1, 2, 1)], dim=2)
    inside = (slice(None), slice(None), slice(20, 76), slice(14, 50))
    there = transform(pixels, maps)
    assert (there - pixels).abs().max() > 0.1
    torch.testing.assert_close(transform(there, back)[inside], pixels[inside], rtol=0, atol=0.03)


def test_a_rotation_is_one_in_pixels() -> None:
    for seed in range(20):
        maps = drawn(1, (96, 32), seed=seed, rotation=90.0)[0, :, :2].double()
        to_pixels = torch.diag(torch.tensor([32.0, 96.0], dtype=torch.float64))
        in_pixels = to_pixels @ maps @ torch.linalg.inv(to_pixels)
        torch.testing.assert_close(in_pixels @ in_pixels.T, torch.eye(2, dtype=torch.float64), atol=1e-5, rtol=0)
        assert torch.linalg.det(in_pixels).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("settings", [{"scale": 0.2}, {"shift": 0.1}, {"rotation": 10.0}])
def test_draws_stay_within_their_limits(settings: dict[str, float]) -> None:
    maps = drawn(500, (64, 64), **settings)
    zoom = 1 / torch.linalg.det(maps[:, :, :2]).sqrt()
    limit = settings.get("scale", 0.0)
    assert 1 - limit - 1e-5 <= zoom.min() <= 1 - 0.9 * limit
    assert 1 + 0.9 * limit <= zoom.max() + 1e-5 <= 1 + limit + 1e-4
    shift = maps[:, :, 2].abs().max()
    assert 1.8 * settings.get("shift", 0.0) <= shift <= 2 * settings.get("shift", 0.0)
    angle = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0])).abs().max()
    assert 0.9 * settings.get("rotation", 0.0) <= angle <= settings.get("rotation", 0.0) + 1e-4


def test_what_comes_from_outside_is_background() -> None:
    bright = torch.ones(1, 1, 32, 32)
    corner = transform(bright, torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]))
    assert corner[0, 0, :, 20:].unique().tolist() == [-1.0]
    assert corner[0, 0, :, :15].unique().tolist() == [1.0]
