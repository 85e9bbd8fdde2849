import math

import pytest
import torch

from diagram_ray.training.losses import adversarial_loss, generator_loss, image_loss, patch_loss


def p(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_equations_by_hand() -> None:
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([2.0, -0.3])
    assert generator_loss(fake).item() == pytest.approx(-(math.log(p(2.0)) + math.log(p(-0.3))) / 2)
    expected = -(math.log(p(0.5)) + math.log(p(-1.0)) + math.log(1 - p(2.0)) + math.log(1 - p(-0.3))) / 2
    assert adversarial_loss(real, fake).item() == pytest.approx(expected)
    logits, labels = torch.tensor([[1.0, -1.0], [0.2, 0.7]]), torch.tensor([0, 1])
    expected = -(math.log(p(2.0)) + math.log(p(0.5))) / 2
    assert patch_loss(logits, labels).item() == pytest.approx(expected)
    assert image_loss(logits, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("logit", [-200.0, -1e-9, 0.0, 200.0])
@pytest.mark.parametrize("other", [-200.0, 200.0])
def test_extreme_logits_give_finite_losses_and_gradients(logit: float, other: float) -> None:
    a = torch.tensor([logit, other], requires_grad=True)
    b = torch.tensor([other, logit], requires_grad=True)
    classes = torch.tensor([[logit, other], [other, logit]], requires_grad=True)
    labels = torch.tensor([0, 0])
    losses = [generator_loss(a), adversarial_loss(a, b), patch_loss(classes, labels), image_loss(classes, labels)]
    sum(losses).backward()
    assert all(math.isfinite(loss.item()) and loss.item() >= 0 for loss in losses)
    assert all(bool(torch.isfinite(x.grad).all()) for x in (a, b, classes))


def test_a_wrong_verdict_keeps_its_gradient_at_any_logit() -> None:
    fake = torch.tensor([-200.0], requires_grad=True)
    generator_loss(fake).backward()
    assert fake.grad.item() == pytest.approx(-1.0)
