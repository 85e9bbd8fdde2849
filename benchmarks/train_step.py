"""How fast the training loop is: `python -m benchmarks.train_step`, about two minutes; --help for sizes and devices.

Three loops train the same model on the same random pixels, in turns, so that a busy machine slows all of them alike:

ours       Trainer: drawing, augmentation, three updates, the epoch's losses
bare       tensors already in memory and on the device, the same three updates, nothing drawn and nothing measured;
           once as it is, and once with the same augmentation
idiomatic  as tutorials have it: Dataset and DataLoader (shuffled; on a GPU with workers that stay and pinned memory),
           augmentation image by image by the same functions, float32 in PyTorch's own memory format,
           Adam as it comes for each of the three steps, real and generated patches through F one after the other,
           gradients of all networks in every step, each loss read by .item(). Nothing in it is slowed down on purpose

Prints images per second (whole images; each comes with `--patches` / `--images` patches) and the ratios. On a GPU also
the rate of arithmetic, the share of what a large matrix product reaches there, and the memory.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.training_data import TrainingData
from diagram_ray.models import DiaGRAM
from diagram_ray.training.algorithm1 import Optimizers, iterate
from diagram_ray.training.augment import draw_transforms, to_tensor, transform
from diagram_ray.training.device import autocast
from diagram_ray.training.gradient_step import GradientStep
from diagram_ray.training.objectives import InnerBatch
from diagram_ray.training.trainer import Trainer

PRECISIONS = ("float32", "bfloat16")
"""The second one on GPUs only."""
Epoch = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """What is trained."""

    config: ExperimentConfig
    data: TrainingData
    device: torch.device

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.data.images) // self.config.training.image_batch

    def model(self) -> DiaGRAM:
        """Anew."""
        torch.manual_seed(0)
        return DiaGRAM(self.config.model).to(self.device)


def random_data(size: tuple[int, int], images: int, patches: int, patch_size: int) -> TrainingData:
    """Images and patches without any meaning."""
    random = np.random.default_rng(0)
    labels, patch_labels = np.arange(images) % 2, np.arange(patches) % 2
    return TrainingData(
        images=random.integers(0, 65536, (images, *size)).astype(np.uint16),
        labels=labels,
        image_ids=np.arange(images).astype(str),
        patient_ids=np.arange(images).astype(str),
        patches=random.integers(0, 65536, (patches, patch_size, patch_size)).astype(np.uint16),
        patch_labels=patch_labels,
        patch_patient_ids=(np.arange(patches) % images).astype(str),
        classes=("negative", "cancer"),
        fingerprint="random",
    )


def ours(task: Task, precision: str, compiled: str = "none") -> Epoch:
    """The product."""
    values = {"training.precision": precision, "training.compile": compiled}
    data, config = task.data, override(task.config, values, "benchmark")
    trainer = Trainer(config, data, np.arange(len(data.images)), np.arange(len(data.patches)), device=task.device)
    return trainer.advance


def bare(task: Task, precision: str, augmented: bool) -> Epoch:
    """What a good engineer writes by hand for one configuration."""
    training, data = task.config.training, task.data
    model = task.model().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizers = Optimizers(model, training)
    images, patches = (to_tensor(pixels.copy(), task.device) for pixels in (data.images, data.patches))
    labels, patch_labels = (torch.from_numpy(all_).to(task.device) for all_ in (data.labels, data.patch_labels))
    n, m, random = training.image_batch, training.patch_batch, torch.Generator().manual_seed(0)
    gradient_step = GradientStep(autocast=autocast(task.device, precision))

    def drawn(pixels: Tensor) -> Tensor:
        if not augmented:
            return pixels
        maps = draw_transforms(len(pixels), (pixels.shape[2], pixels.shape[3]), training.augment, random)
        return transform(pixels, maps.to(task.device))

    def noise() -> Tensor | None:
        return model.generator.sample_noise(m, random).to(task.device) if model.generator is not None else None

    def epoch() -> None:
        for step in range(task.steps):
            one, other = slice(step * n, step * n + n), slice(step * m, step * m + m)
            batch = InnerBatch(
                drawn(patches[other]), patch_labels[other], noise(), drawn(images[one]), labels[one]
            )  # fmt: skip
            for _ in iterate(model, optimizers, [batch], noise(), gradient_step):
                pass

    return epoch


class Pixels(Dataset[tuple[Tensor, int]]):
    """Pictures as tutorials load them: one at a time, augmented by themselves."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, task: Task) -> None:
        self.pixels, self.labels, self.augment = pixels, labels, task.config.training.augment

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = torch.from_numpy(self.pixels[index].astype(np.float32) / 65535.0 * 2.0 - 1.0)[None, None]
        maps = draw_transforms(1, (picture.shape[2], picture.shape[3]), self.augment, torch.default_generator)
        return transform(picture, maps)[0], int(self.labels[index])


def idiomatic(task: Task, workers: int) -> Epoch:
    """The usual way."""
    training, data, model = task.config.training, task.data, task.model().to(task.device).train()
    rate = training.learning_rate
    adam = {
        "d": torch.optim.Adam([*model.features.parameters(), *model.discriminator.parameters()], rate.discriminator),
        "e": torch.optim.Adam([*model.features.parameters(), *model.classifier.parameters()], rate.classifier),
        "g": torch.optim.Adam(model.generator.parameters(), rate.generator) if model.generator is not None else None,
    }
    loaders = [
        DataLoader(
            Pixels(pixels, labels, task), size, shuffle=True, num_workers=workers, drop_last=True,
            pin_memory=task.device.type == "cuda", persistent_workers=workers > 0,
        )
        for pixels, labels, size in (
            (data.images, data.labels, training.image_batch),
            (data.patches, data.patch_labels, training.patch_batch),
        )
    ]  # fmt: skip

    def descend(name: str, loss: Tensor) -> float:
        model.zero_grad()
        loss.backward()
        adam[name].step()
        return loss.item()

    def epoch() -> None:
        for (images, labels), (patches, patch_labels) in zip(*loaders, strict=False):
            images, labels = images.to(task.device), labels.to(task.device)
            patches, patch_labels = patches.to(task.device), patch_labels.to(task.device)
            real = model.discriminator(model.features(patches))
            loss = F.cross_entropy(real.class_logits, patch_labels)
            if model.generator is not None:
                ones = torch.ones(len(patches), device=task.device)
                made = model.generator(torch.randn(len(patches), task.config.model.latent_size, device=task.device))
                fake = model.discriminator(model.features(made.detach()))
                loss = loss + F.binary_cross_entropy_with_logits(real.real_logit, ones)
                loss = loss + F.binary_cross_entropy_with_logits(fake.real_logit, torch.zeros_like(ones))
            descend("d", loss)
            descend("e", F.cross_entropy(model(images), labels))
            if model.generator is not None:
                made = model.generator(torch.randn(len(patches), task.config.model.latent_size, device=task.device))
                descend(
                    "g", F.binary_cross_entropy_with_logits(model.discriminator(model.features(made)).real_logit, ones)
                )

    return epoch


def in_turns(epochs: dict[str, Epoch], rounds: int, task: Task, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each epoch, after one that is not counted."""
    device = task.device
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(rounds + 1):
        for name, epoch in epochs.items():
            _wait(device)
            started = clock()
            epoch()
            _wait(device)
            seconds[name].append(clock() - started)
    return {name: found[1:] for name, found in seconds.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, kind: torch.dtype, size: int = 8192) -> float:
    """Operations a second of a large matrix product."""
    one = torch.randn(size, size, device=device, dtype=kind)
    found = []
    for _ in range(10):
        _wait(device)
        started = time.perf_counter()
        one @ one
        _wait(device)
        found.append(2 * size**3 / (time.perf_counter() - started))
    return statistics.median(found[2:])


def show_gpu(task: Task, seconds: float) -> None:
    """The rate of arithmetic in an epoch of `seconds`, and the memory."""
    with FlopCounterMode(display=False) as counter:
        bare(task, "float32", augmented=False)()
    rate = counter.get_total_flops() / seconds
    for kind in (torch.bfloat16, torch.float32):
        best = matmul_rate(task.device, kind)
        print(f"{rate / 1e12:.2f} TFLOP/s, {rate / best:.1%} of the {best / 1e12:.1f} of a {kind} matrix product")
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{torch.cuda.get_device_name()}: peak {peak:.1f} GiB, with the models and data of all loops")


def report(task: Task, seconds: dict[str, list[float]]) -> None:
    """Images a second; and ours as a multiple of the others, the median of the rounds (and the range)."""
    images = task.steps * task.config.training.image_batch
    for name, found in seconds.items():
        rows = [f"{name:33}{images / statistics.median(found):8.1f} images/s"]
        for kind in PRECISIONS:
            if f"ours, {kind}" not in seconds or name == f"ours, {kind}":
                continue
            ratios = [theirs / mine for theirs, mine in zip(found, seconds[f"ours, {kind}"], strict=True)]
            rows.append(f"ours in {kind}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        print("   ".join(rows))


def cases(asked: argparse.Namespace) -> Iterator[Task]:
    """With the GAN and without."""
    data = random_data(asked.size, asked.steps * asked.images, asked.steps * asked.patches, 32)
    for gan in (True, False):
        values = {
            "model.width": asked.width, "model.generator_width": asked.width, "model.gan": gan,
            "training.image_batch": asked.images, "training.patch_batch": asked.patches,
        }  # fmt: skip
        yield Task(override(ExperimentConfig(), values, "benchmark"), data, torch.device(asked.device))


def sizes(description: str | None, gpu: bool) -> argparse.ArgumentParser:
    """A command's options that say what is trained, and how often."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(device="cuda" if gpu else "cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 384) if gpu else (128, 96))
    parser.add_argument("--width", type=int, default=64 if gpu else 16)
    parser.add_argument("--images", type=int, default=64 if gpu else 16, help="in a minibatch")
    parser.add_argument("--patches", type=int, default=256 if gpu else 32, help="in a minibatch")
    parser.add_argument("--steps", type=int, default=12, help="minibatches in an epoch")
    parser.add_argument("--rounds", type=int, default=9)
    return parser


def main() -> None:
    """Measures each case."""
    gpu = torch.cuda.is_available()
    parser = sizes(__doc__, gpu)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--compile", nargs="*", default=(), help="also with these values of training.compile")
    parser.add_argument("--workers", type=int, default=8 if gpu else 0, help="of the idiomatic loop's DataLoader")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    alone = asked.device == "cpu" and asked.threads == 1 and asked.workers == 0
    clock = time.process_time if alone else time.perf_counter  # what else runs here does not count
    for task in cases(asked):
        print(f"{asked.size[0]} x {asked.size[1]}, width {asked.width}, GAN {task.config.model.gan}, {asked.device}")
        kinds = PRECISIONS if task.device.type == "cuda" else PRECISIONS[:1]
        epochs = {
            **{f"ours, {kind}": ours(task, kind) for kind in kinds},
            **{f"ours, {kind}, {how}": ours(task, kind, how) for kind in kinds for how in asked.compile},
            **{f"bare, {kind}": bare(task, kind, augmented=False) for kind in kinds},
            **{f"bare with augmentation, {kind}": bare(task, kind, augmented=True) for kind in kinds},
            "idiomatic, float32": idiomatic(task, asked.workers),
        }
        seconds = in_turns(epochs, asked.rounds, task, clock)
        report(task, seconds)
        if task.device.type == "cuda":
            show_gpu(task, statistics.median(seconds["ours, bfloat16"]))


if __name__ == "__main__":
    main()
