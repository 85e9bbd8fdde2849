import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import ConfigError
from diagram_ray.models import classifier
from diagram_ray.training.compiling import check_compiler, start_of_step
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.gradient_step import GradientStep
from diagram_ray.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # PyTorch's own
Small = Callable[..., ExperimentConfig]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
COMPILE = torch.compile


@pytest.fixture
def exact(exact: None) -> Iterator[None]:
    """Nothing compiled is left afterwards."""
    yield
    torch.compiler.reset()


def backend(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    """Another end of the compiler, because the usual one takes minutes for the whole algorithm."""
    monkeypatch.setattr(torch, "compile", lambda function, mode: COMPILE(function, backend=name))


def trained(config: ExperimentConfig, data: TrainingData) -> tuple[list[dict[str, Any]], Trainer]:
    made = Trainer(config, data, np.arange(16), np.arange(16))
    rows = [made.advance() for _ in range(2)]
    return [{key: value for key, value in row.items() if key != "seconds" and value is not None} for row in rows], made


def check_same(changes: dict[str, Any], small: Small, data: TrainingData) -> None:
    """Losses, weights, their names and scores are those of a training that is not compiled."""
    rows, plain = trained(small(**changes), data)
    found, compiled = trained(small(**changes, training__compile="default"), data)
    assert found == [pytest.approx(row, rel=1e-9) for row in rows]
    torch.testing.assert_close(compiled.state_dict()["model"], plain.state_dict()["model"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(compiled.score(np.arange(24)), plain.score(np.arange(24)), rtol=1e-9)


@pytest.mark.usefixtures("exact")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: PyTorch cannot compile on a CPU")
def test_compiled_code_trains_the_same_weights(
    small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a short E and without patches: each kernel takes seconds to compile.

    What the compiler keeps is the test's own: what was compiled for another processor does not fit.
    """
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(classifier.BLOCKS, 4, ((2, 2),))
    check_same({"model__gan": False, "training__multi_task": False, "training__freeze": 3}, small, data)


@pytest.mark.usefixtures("exact")
def test_compiled_networks_share_weights_and_statistics_with_the_model(
    small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole algorithm, through all of the compiler but its last part."""
    monkeypatch.setitem(classifier.BLOCKS, 4, ((2, 2),))
    backend(monkeypatch, "aot_eager")
    changes = {"model__norm": "batch", "model__dropout": 0.2, "training__k": 2, "training__ema_decay": 0.9}
    check_same(changes, small, data)


@pytest.mark.usefixtures("exact")
def test_what_the_compiler_cannot_do_is_told(small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no header of the name omp.h")

    backend(monkeypatch, broken)
    made = Trainer(small(training__compile="default"), data, np.arange(16), np.arange(16))
    with pytest.raises(
        ConfigError, match=r"(?s)^training.compile: default: PyTorch could not .*omp.h.*: none trains with"
    ):
        made.advance()


def test_where_there_is_no_compiler_it_is_refused_before_training(
    small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match=r"^training.compile: default: there is no C\+\+ compiler 'no-such-compiler' here"
    ):
        Trainer(small(training__compile="default"), data, np.arange(16), np.arange(16))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Triton is not installed"):
        check_compiler("default", GPU)


def test_graphs_are_for_gpus(small: Small, data: TrainingData) -> None:
    with pytest.raises(ConfigError, match="cuda-graphs is for GPUs only; allowed on a CPU are none and default"):
        Trainer(small(training__compile="cuda-graphs"), data, np.arange(16), np.arange(16))


def test_the_start_of_each_step_is_told_where_graphs_need_it() -> None:
    """Once a step, not once a micro-batch: the gradients of those before must stay."""
    weight = torch.nn.Parameter(torch.ones(3))
    begun: list[int] = []
    gradient_step = GradientStep(begin=lambda: begun.append(len(begun)))

    def losses(part: slice) -> dict[str, torch.Tensor]:
        if part.stop - part.start > 1:
            raise MemoryError
        return {"any": weight[part].sum()}

    for _ in range(2):
        gradient_step.step("any", torch.optim.SGD([weight], lr=1.0), 3, ("any",), losses)
    assert weight.tolist() == [-1.0, -1.0, -1.0]
    assert begun == [0, 1]
    assert start_of_step("cuda-graphs") is torch.compiler.cudagraph_mark_step_begin


def test_a_new_configuration_starts_with_nothing_compiled(
    small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append("all"))
    for how, times in (("none", 0), ("default", 1)):
        CrossValidation(small(training__compile=how), data, make_splits(data, 3, seed=0))
        assert len(forgotten) == times
