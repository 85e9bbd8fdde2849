"""What a configuration costs whatever it scores, counted without training: on PyTorch's meta device, which has shapes
and no numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.models import DiaGRAM, outline

FLOAT = 4
"""Bytes of a float32."""
MEGABYTE = 1e6


def size_estimator(
    base: ExperimentConfig, image_size: tuple[int, int], folds: int
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """Parameters of a trial -> `sizes` of its configuration. What it returns raises ConfigError."""
    return lambda params: sizes(override(base, params, "the trial"), image_size, folds)


def sizes(config: ExperimentConfig, image_size: tuple[int, int], folds: int) -> dict[str, float]:
    """`parameters` of all four networks, `multiply_adds` of F and E for one image of (H, W), and `memory_mb`.

    The memory is an estimate for one process that has all folds in float32 and trains one at a time: the weights, their
    gradients, the state of the optimizers, copies of the weights, and what the largest gradient step keeps for its
    backward pass. What a device and its libraries need for themselves comes on top.
    """
    model = outline(config.model)
    model.features.first(config.training.freeze).requires_grad_(False)
    with torch.device("meta"):
        return {
            "parameters": float(_count(model)),
            "multiply_adds": float(multiply_adds(model, image_size)),
            "memory_mb": (folds * FLOAT * _held(model, config) + _kept(model, config, image_size)) / MEGABYTE,
        }


def multiply_adds(model: DiaGRAM, image_size: tuple[int, int]) -> int:
    """The multiply-adds of F and E for one image: convolutions and matrix products, as PyTorch counts them."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 1, *image_size, device=device))
    return int(counter.get_total_flops() // 2)


def kept_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """What autograd keeps of a forward pass, the model's own tensors left out; each storage once."""
    kept: dict[int, Tensor] = {}
    own = {_storage(tensor) for tensor in [*model.parameters(), *model.buffers()]}

    def pack(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor  # held, so that its storage is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _count(network: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in network.parameters()) if network is not None else 0


def _moved(network: nn.Module | None) -> int:
    """Without what is frozen."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad) if network is not None else 0


def _held(model: DiaGRAM, config: ExperimentConfig) -> int:
    """Numbers of one fold that stay from step to step: weights, gradients, copies, and Adam's two for each weight of
    each optimizer that moves it. F is moved by two."""
    training = config.training
    of_features = _moved(model.features)
    moved = of_features + _moved(model.classifier)
    if training.multi_task:
        moved += of_features + _moved(model.discriminator) + _moved(model.generator)
    copies = bool(training.ema_decay) + bool(training.validation_part)
    return (1 + copies) * _count(model) + _moved(model) + (2 * moved if training.optimizer == "adam" else 0)


def _kept(model: DiaGRAM, config: ExperimentConfig, image_size: tuple[int, int]) -> int:
    """Bytes that the largest gradient step keeps: of whole images, or of patches, real and generated ones together."""
    training, side = config.training, config.model.patch_size
    patches = training.patch_batch * (2 if model.generator is not None else 1)
    steps = [kept_bytes(lambda: model(torch.empty(training.image_batch, 1, *image_size)), model)]
    if training.multi_task:
        steps.append(kept_bytes(lambda: _judged(model, torch.empty(patches, 1, side, side)), model))
    return max(steps)


def _judged(model: DiaGRAM, patches: Tensor) -> Tensor:
    logits: Tensor = model.discriminator(model.features(patches)).class_logits
    return logits
