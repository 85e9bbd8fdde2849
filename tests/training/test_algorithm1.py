"""Algorithm 1 against a transcription of the paper's equations that shares no code with the package."""

import itertools

import pytest
import torch

from diagram_ray.training.algorithm1 import iterate
from tests.support.training.paper import draw, make


@pytest.mark.parametrize(
    ("norm", "gan", "optimizer", "k"),
    [*itertools.product(("weight-standardised", "group", "batch"), (True, False), ("adam", "sgd"), (1, 2, 3))],
)
def test_an_iteration_moves_every_parameter_as_the_paper_says(norm: str, gan: bool, optimizer: str, k: int) -> None:
    model, optimizers, paper = make(norm, gan, optimizer)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    batches, noise = draw(k, gan)
    for _ in range(2):
        list(iterate(model, optimizers, batches, noise))
        paper.iteration(batches, noise)
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name
        torch.testing.assert_close(value.detach(), paper.theta[name].detach(), rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("gan", [True, False])
def test_the_losses_reported_are_those_of_the_paper(gan: bool) -> None:
    model, optimizers, paper = make(gan=gan)
    batches, noise = draw(1, gan)
    steps = iterate(model, optimizers, batches, noise)
    expected = paper.loss_d_and_c(batches[0])
    torch.testing.assert_close(sum(next(steps).values()), expected.detach())
    paper.descend("discriminator", ("features", "discriminator"), expected)
    torch.testing.assert_close(next(steps)["image"], paper.loss_i(batches[0]).detach())


def test_each_step_moves_its_own_parameters_and_leaves_no_gradient() -> None:
    model, optimizers, _ = make()
    batches, noise = draw(2, True)
    steps = iterate(model, optimizers, batches, noise)
    inner = [{"features", "discriminator"}, {"features", "classifier"}]
    for expected in [*inner, *inner, {"generator"}]:
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        next(steps)
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert moved == {name for name in before if name.split(".")[0] in expected}
        assert all(parameter.grad is None for parameter in model.parameters())
    assert next(steps, None) is None


def test_generated_patches_carry_no_gradient_in_the_inner_steps() -> None:
    model, optimizers, _ = make()
    batches, noise = draw(1, True)
    carried = []
    model.generator.register_forward_hook(lambda *call: carried.append(call[-1].requires_grad))
    list(iterate(model, optimizers, batches, noise))
    assert carried == [False, True]


def test_minibatches_are_drawn_when_they_are_needed() -> None:
    model, optimizers, _ = make()
    batches, noise = draw(2, True)
    drawn = []

    def one_by_one():
        for number, batch in enumerate(batches):
            drawn.append(number)
            yield batch

    steps = iterate(model, optimizers, one_by_one(), noise)
    next(steps)
    assert drawn == [0]


def test_running_statistics_are_those_of_images_alone() -> None:
    model, optimizers, _ = make(norm="batch")
    statistics = dict(model.features.named_buffers())
    batches, noise = draw(1, True)
    steps = iterate(model, optimizers, batches, noise)
    before = {name: value.clone() for name, value in statistics.items()}
    next(steps)
    assert all(torch.equal(value, before[name]) for name, value in statistics.items())
    next(steps)
    assert not any(torch.equal(value, before[name]) for name, value in statistics.items())
    before = {name: value.clone() for name, value in statistics.items()}
    next(steps)
    assert all(torch.equal(value, before[name]) for name, value in statistics.items())
