"""Optimizers without PyTorch's compiler: PyTorch's numbers, and nothing that is not needed is imported."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from diagram_ray.training.optimizers import EagerAdamW, EagerSGD
from tests.support.repository import ROOT

TRAINING = """
import sys, tempfile
from pathlib import Path
import numpy as np
from tests.support.training.tiny_data import tiny_data
from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import make_splits
from diagram_ray.training.cross_validation import CrossValidation

data = tiny_data()
config = override(ExperimentConfig(), {changes} | {"model.width": 4, "model.generator_width": 4}, "")
validation = CrossValidation(config, data, make_splits(data, 3, 0), "cpu")
list(validation.advance(1, 2))
state = validation.state_dict()
validation.load_state_dict(state)
with tempfile.TemporaryDirectory() as folder:
    validation.export(Path(folder))
print([name for name in sys.modules if name.endswith(("._dynamo.convert_frame", "sympy"))])
"""


@pytest.mark.parametrize("changes", ["{}", "{'training.optimizer': 'sgd', 'training.clip_norm': 1.0}"])
def test_training_does_not_import_the_compiler(changes: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", TRAINING.replace("{changes}", changes)], cwd=ROOT, capture_output=True, text=True
    )
    assert told.stdout.strip() == "[]", told.stderr


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [(EagerAdamW, AdamW, {"weight_decay": 0.1, "fused": True}), (EagerSGD, SGD, {"weight_decay": 0.1})],
)
def test_steps_are_those_of_pytorch(ours: type[Optimizer], theirs: type[Optimizer], settings: dict) -> None:
    weights = []
    for kind in (ours, theirs):
        torch.manual_seed(0)
        layer = nn.Linear(5, 4)
        optimizer = kind(layer.parameters(), lr=0.1, **settings)
        for _ in range(3):
            optimizer.zero_grad()
            layer(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
            resumed = kind(layer.parameters(), lr=0.5, **settings)
            resumed.load_state_dict(optimizer.state_dict())
            optimizer = resumed
        weights.append(layer.weight.detach())
    assert torch.equal(*weights)
