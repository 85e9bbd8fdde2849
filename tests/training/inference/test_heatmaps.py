import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from diagram_ray import predict as command
from diagram_ray.config import ExperimentConfig
from diagram_ray.evaluation.plots.heatmap import Heat, heatmap_png, upsampled
from diagram_ray.models import DiaGRAM
from diagram_ray.training.augment import to_tensor
from diagram_ray.training.checkpoints.model_folder import ModelCard, write_models
from diagram_ray.training.inference.predictor import Predictor

Small = Callable[..., ExperimentConfig]
SIZE = (256, 192)
CELL = 32
"""Of the paper's E."""
COARSE = {"model__reduction": 16, "model__norm": "group"}
CLASSES = ("benign", "cancer")


def network(experiment: ExperimentConfig, seed: int) -> DiaGRAM:
    torch.manual_seed(seed)
    made = DiaGRAM(experiment.model).eval()
    torch.nn.init.normal_(made.classifier.output.weight, std=1.0)
    torch.nn.init.normal_(made.classifier.output.bias)
    return made


def predictor(experiment: ExperimentConfig, *models: DiaGRAM, size: tuple[int, int] = SIZE) -> Predictor:
    return Predictor(ModelCard(experiment, CLASSES, size, "f" * 64), models)


def random_images(seed: int, count: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 65536, (count, *size), dtype=np.uint16)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(16, 150),
    columns=st.integers(16, 150),
    seed=st.integers(0, 99),
    norm=st.sampled_from(["group", "batch"]),
)
def test_the_mean_over_the_positions_is_the_logit(small: Small, rows: int, columns: int, seed: int, norm: str) -> None:
    """For any size: pooling and the output layer are linear, so the map is exact and no approximation."""
    model = network(small(model__norm=norm), seed)
    images = to_tensor(random_images(seed, 2, (rows, columns)), torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        local, logits = model.classifier.local_logits(model.features(images)), model(images)
    torch.testing.assert_close(local.mean(dim=(2, 3)), logits, atol=1e-4, rtol=1e-4)
    without_bias = (local - model.classifier.output.bias[:, None, None]).mean(dim=(2, 3))
    torch.testing.assert_close(without_bias, logits - model.classifier.output.bias, atol=1e-4, rtol=1e-4)
    cells = tuple(-(-side // CELL) for side in (rows, columns))
    assert local.shape[2:] == cells
    assert model.classifier.cell == CELL


def test_the_models_of_folds_are_averaged(small: Small) -> None:
    models = [network(small(), seed) for seed in range(3)]
    images = random_images(0, 2)
    before = images.copy()
    together = predictor(small(), *models).local_log_odds(images)
    alone = [predictor(small(), model).local_log_odds(images) for model in models]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-12)
    np.testing.assert_allclose(together[:, 0], -together[:, 1])
    assert together.shape == (2, 2, 8, 6)
    assert not np.allclose(alone[0], alone[1])
    for model, found in zip(models, alone, strict=True):
        with torch.inference_mode():
            benign, cancer = model(to_tensor(images.copy(), torch.device("cpu"))).double().numpy().T
        np.testing.assert_allclose(found[:, 1].mean(axis=(1, 2)), cancer - benign, rtol=1e-4, atol=1e-4)
    assert (images == before).all()


def lesions(seed: int, count: int) -> tuple[NDArray[np.uint16], NDArray[np.intp], NDArray[np.intp]]:
    """Even tissue with grain; every other image has a bright disk. (images, labels, centres)."""
    random = np.random.default_rng(seed)
    images = random.normal(18000, 2500, (count, *SIZE))
    labels = np.arange(count) % 2
    centres = random.integers(24, np.array(SIZE) - 24, (count, 2))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for image, label, (row, column) in zip(images, labels, centres, strict=True):
        if label:
            image[(y - row) ** 2 + (x - column) ** 2 < 14**2] += 36000
    return images.clip(0, 65535).astype(np.uint16), labels, centres


@pytest.fixture(scope="module")
def lesion_model(small: Small) -> DiaGRAM:
    """Trained on bright disks until it tells every one.

    F reduces by 16. Where it reduces by 4, a position of E's last maps sees most of the image, and the map of a network
    that has been taught by labels alone need not point at what the label is owed to: here it does in a quarter.
    """
    torch.manual_seed(0)
    model = DiaGRAM(small(model__gan=False, **COARSE).model)
    images, labels, _ = lesions(1, 32)
    pixels, wanted = to_tensor(images, torch.device("cpu")), torch.from_numpy(labels)
    optimizer = torch.optim.Adam([*model.features.parameters(), *model.classifier.parameters()], lr=0.004)
    for _ in range(40):
        chosen = torch.randperm(len(images))[:16]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels[chosen]), wanted[chosen]).backward()
        optimizer.step()
    return model.eval()


def test_a_model_of_bright_lesions_points_at_them(small: Small, lesion_model: DiaGRAM) -> None:
    images, labels, centres = lesions(2, 40)
    reader = predictor(small(model__gan=False, **COARSE), lesion_model)
    scores = reader.predict_array(images)[:, 1]
    assert ((scores > 0.5) == labels).mean() > 0.9
    local = reader.local_log_odds(images)[:, 1]
    found = 0
    for image in np.flatnonzero(labels):
        row, column = np.unravel_index(upsampled(local[image], 64, SIZE).argmax(), SIZE)
        found += bool(np.hypot(row - centres[image][0], column - centres[image][1]) < 80)
    assert found >= 0.85 * labels.sum()


@pytest.mark.parametrize("shape", [(96, 72), (128, 128), (64, 30), (512, 384), (70, 200)])
def test_a_map_lies_where_its_positions_are(shape: tuple[int, int]) -> None:
    """At the centre of a position stands its own value, halfway between two their mean; outside it goes on evenly."""
    cells = tuple(-(-side // CELL) for side in shape)
    local = np.random.default_rng(0).random(cells)
    drawn = upsampled(local, CELL, shape)
    assert drawn.shape == shape
    rows = np.clip((np.arange(shape[0]) + 0.5) / CELL - 0.5, 0, cells[0] - 1)
    columns = np.clip((np.arange(shape[1]) + 0.5) / CELL - 0.5, 0, cells[1] - 1)
    along = np.stack([np.interp(columns, np.arange(cells[1]), line) for line in local])
    expected = np.stack([np.interp(rows, np.arange(cells[0]), line) for line in along.T], axis=1)
    np.testing.assert_allclose(drawn, expected, atol=1e-12)
    np.testing.assert_allclose(drawn[: CELL // 2, : CELL // 2], local[0, 0])


def picture(heat: Heat) -> NDArray[np.uint8]:
    """The drawn picture, RGB."""
    import io

    pixels = np.full(SIZE, 30000, np.uint16)
    return np.asarray(Image.open(io.BytesIO(heatmap_png(pixels, heat))).convert("RGB"))


def test_colours_stand_on_the_side_that_the_map_says() -> None:
    """The map's upper half speaks for the class, its lower half against: orange above, blue below."""
    local = np.concatenate([np.full((2, 3), 4.0), np.full((2, 3), -4.0)])
    drawn = picture(Heat(local, 64, "cancer", 0.5, 1)).astype(int)
    height, width = drawn.shape[:2]
    left, right = drawn[:, : int(width * 0.4)], drawn[:, width // 2 : int(width * 0.86)]
    assert (np.ptp(left, axis=2) < 30).mean() > 0.99, "grey on the left"
    orange, blue = (right[..., 0] - right[..., 2] > 60), (right[..., 2] - right[..., 0] > 60)
    assert orange[: height // 2].sum() > 50 * orange[height // 2 :].sum() > -1
    assert blue[height // 2 :].sum() > 50 * blue[: height // 2].sum() > -1
    assert orange.sum() > 10_000
    assert blue.sum() > 10_000
    legend = drawn[:, int(width * 0.9)]  # from the bottom, against, to the top, for
    redder = legend[:, 0] - legend[:, 2]
    assert (redder[: height // 4] > 60).sum() > height // 10
    assert (redder[height // 2 :] < -60).sum() > height // 10
    assert redder[: height // 4].min() > -60
    assert redder[height // 2 :].max() < 60


def test_where_a_map_says_little_the_image_alone_is_seen() -> None:
    drawn = picture(Heat(np.full((4, 3), 0.02), 64, "cancer", 0.5, 1)).astype(int)
    shown = drawn[:, : int(drawn.shape[1] * 0.8)]
    assert (np.ptp(shown, axis=2) < 30).mean() > 0.99


@pytest.fixture
def model_folder(small: Small, tmp_path: Path) -> Path:
    card = ModelCard(small(), CLASSES, SIZE, "f" * 64)
    write_models(tmp_path / "model", card, {f"fold-{seed}": network(small(), seed) for seed in range(2)})
    return tmp_path / "model"


def half_disk(path: Path, size: int = 300) -> None:
    """A breast at the left edge."""
    y, x = np.mgrid[:size, : size * 3 // 4]
    inside = (x / (size * 0.55)) ** 2 + ((y - size / 2) / (size * 0.4)) ** 2 < 1
    grain = np.random.default_rng(0).integers(0, 30000, inside.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(inside, 20000 + grain, 0).astype(np.uint16)).save(path)


def test_the_command_draws_every_image_and_no_name(model_folder: Path, tmp_path: Path) -> None:
    """Equal names in two folders do not collide, odd ones lead nowhere, and rejects have no picture."""
    source = tmp_path / "Mary Doe"
    for name in ("a/Doe^Mary 1931.png", "b/Doe^Mary 1931.png", "a/x..%2f..%2fout.png", "a/$(touch x);&.png"):
        half_disk(source / name)
    (source / "damaged.png").write_bytes(b"\x89PNG no picture")
    out = tmp_path / "out"
    arguments = [model_folder, source, "--out", out, "--heatmaps", "--json", "--device", "cpu"]
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    assert told == {"out": str(out), "images": 4, "rejects": 1, "models": 2, "heatmaps": 4}
    table = pd.read_parquet(out / "predictions.parquet")
    assert table["heatmap"].tolist() == [f"heatmaps/{number:06d}.png" for number in range(1, 5)]
    written = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    assert written == sorted([*table["heatmap"], "predictions.csv", "predictions.parquet", "rejects.csv"])
    for name in table["heatmap"]:
        with Image.open(out / name) as opened:
            assert opened.format == "PNG"
            assert set(opened.info) <= {"dpi"}
        assert b"Doe" not in (out / name).read_bytes()
    plain = CliRunner().invoke(command.app, [str(each) for each in (model_folder, source, "--out", tmp_path / "plain")])
    assert plain.exit_code == 0, plain.stderr
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "plain" / "predictions.parquet"), table.drop(columns="heatmap")
    )


def test_without_a_usable_image_nothing_is_left(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG no picture")
    arguments = [model_folder, tmp_path / "damaged.png", "--out", tmp_path / "out", "--heatmaps"]
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "none of 1 images could be used" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.png", "model"]


def test_of_more_than_two_classes_the_likeliest_is_shown(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diagram_ray.training.inference import heatmaps

    experiment = small(model__num_classes=3)
    reader = Predictor(ModelCard(experiment, ("a", "b", "c"), SIZE, "f" * 64), [network(experiment, 0)])
    drawn: list[Heat] = []
    monkeypatch.setattr(heatmaps, "heatmap_png", lambda pixels, heat: drawn.append(heat) or b"")
    heatmaps.Heatmaps(reader, tmp_path).write(random_images(0, 2), np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]))
    assert [(heat.name, heat.probability) for heat in drawn] == [("c", 0.7), ("a", 0.6)]
    local = reader.local_log_odds(random_images(0, 2))
    assert torch.sigmoid(torch.from_numpy(local)).sum(dim=1).numpy() == pytest.approx(1.0)
    np.testing.assert_array_equal(drawn[0].local, local[0, 2])
    np.testing.assert_array_equal(drawn[1].local, local[1, 0])
