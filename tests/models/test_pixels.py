"""The layers between pixels and maps against PyTorch's convolutions, in outputs and gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diagram_ray.models.pixels import FromPixels, ToPixels

FORMATS = [torch.contiguous_format, torch.channels_last]


def both(layer: nn.Module, plain: nn.Module, into: Tensor, wanted: str) -> None:
    """`layer` gives what `plain` does with the same weights, and the same gradients of what is `wanted`."""
    found = []
    for network in (plain, layer):
        network.load_state_dict(plain.state_dict())
        maps = into.detach().clone(memory_format=torch.preserve_format).requires_grad_("input" in wanted)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in wanted)
        out = network(maps)
        slope = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view(out.shape)
        if wanted:
            out.backward(slope)
        found.append([out, maps.grad, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


wanted = st.sampled_from(["", "input", "input weight", "weight bias", "input bias", "input weight bias"])


@given(st.integers(1, 3), st.integers(1, 9), st.integers(2, 21), st.integers(2, 21), wanted, st.sampled_from(FORMATS))
@settings(max_examples=60, deadline=None)
def test_maps_of_pixels(count: int, channels: int, height: int, width: int, wanted: str, format_: object) -> None:
    torch.manual_seed(0)
    layer, plain = FromPixels(channels).double(), nn.Conv2d(1, channels, 4, 2, 1).double()
    both(layer.to(memory_format=format_), plain, torch.randn(count, 1, height, width).double(), wanted)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), wanted, st.sampled_from(FORMATS))
@settings(max_examples=60, deadline=None)
def test_pixels_of_maps(count: int, channels: int, height: int, width: int, wanted: str, format_: object) -> None:
    torch.manual_seed(0)
    layer, plain = ToPixels(channels).double(), nn.ConvTranspose2d(channels, 1, 4, 2, 1).double()
    maps = torch.randn(count, channels, height, width).double().contiguous(memory_format=format_)
    both(layer.to(memory_format=format_), plain, maps, wanted)


def test_it_is_done_by_hand_where_pytorch_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(F, "conv_transpose2d", slow)
    pixels = ToPixels(3)(torch.rand(2, 3, 8, 8)).detach().requires_grad_()
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", slow)
    layer = FromPixels(3).requires_grad_(False)
    layer(pixels).sum().backward()
    assert pixels.grad.shape == (2, 1, 16, 16)
