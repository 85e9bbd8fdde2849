"""What follows a search on a real local Ray: a killed worker costs no result, a failure nothing but its own step."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diagram_ray.config import override
from diagram_ray.data.splits import forget_patients, make_splits, shuffle_patients
from diagram_ray.distributed.after_search import fold_tasks, steps
from diagram_ray.reporting.page import write_report
from diagram_ray.results import Study
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.study_folder import read_plan
from tests.support.fake_study import drive
from tests.support.fake_study.training import FakeValidation, tiny_data

ASKED = ["trials=3", "repeats=2", "control.shuffles=2", "control.leakage=true", "parallel.lookback=2"]
KINDS = ("shuffled", "leaky", "repeat")
RESULTS = ("control.json", "leakage.json", "repeats.json")

pytestmark = pytest.mark.ray


def run(out: Path, *assignments: str) -> dict:
    return drive.run(out, [*ASKED, *assignments])


@pytest.fixture
def folder(cluster: dict[str, str]) -> Iterator[Path]:
    """Where the training is told to die."""
    place = Path(cluster["FAKE_FOLDER"])
    yield place
    for wish in [*place.glob("die-*"), *place.glob("died-*"), *place.glob("doomed-*")]:
        wish.unlink()


@pytest.fixture(scope="module")
def undisturbed(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    run(out)
    return out


def test_controls_are_cross_validations_of_the_winner_on_changed_data(undisturbed: Path) -> None:
    best, plan = int(Study.load(undisturbed).best["number"]), read_plan(undisturbed)
    config = override(plan.base, read_ledger(undisturbed)[best].params, "")
    control, leakage = (json.loads((undisturbed / name).read_text()) for name in RESULTS[:2])

    def fold_auc(data: object) -> list[float]:
        """The way to the same figures without tasks, folds apart or files."""
        splits = make_splits(data, 3, 0)  # type: ignore[arg-type]
        validation = FakeValidation(config, data, splits, "cpu")  # type: ignore[arg-type]
        for _ in validation.advance(3, 6):
            pass
        tested = [splits.fold(data, fold).test_images for fold in range(3)]  # type: ignore[arg-type]
        return [_auc(data.labels[rows], validation.fold_scores(fold)) for fold, rows in enumerate(tested)]  # type: ignore[attr-defined]

    expected = [fold_auc(shuffle_patients(tiny_data(), seed)) for seed in (0, 1)]
    assert [shuffle["fold_auc"] for shuffle in control["shuffles"]] == expected
    assert control["auc_mean"] == pytest.approx(statistics.fmean([*expected[0], *expected[1]]))
    assert leakage["fold_auc"] == fold_auc(forget_patients(tiny_data(), 0))
    assert not (undisturbed / "controls").exists()


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The part of the pairs that stand in the right order."""
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float((pairs > 0).mean())


def test_a_worker_that_is_killed_in_each_step_changes_no_number(
    undisturbed: Path, folder: Path, tmp_path: Path
) -> None:
    for kind in KINDS:
        (folder / f"die-{kind}").touch()
    out = tmp_path / "study"
    result = run(out)
    assert [kind for kind in KINDS if (folder / f"died-{kind}").exists()] == list(KINDS)
    assert result["failed_steps"] == {}
    for name in RESULTS:
        assert json.loads((out / name).read_text()) == json.loads((undisturbed / name).read_text())
    pd.testing.assert_frame_equal(Study.load(out).predictions, Study.load(undisturbed).predictions)
    assert "No-signal control" in write_report([out]).read_text(encoding="utf-8")


def test_a_step_whose_workers_always_die_says_so_and_the_study_is_whole(
    undisturbed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_tasks, "RETRIES", 0)  # each new worker takes seconds
    for kind in KINDS:
        (folder / f"doomed-{kind}").touch()
    out = tmp_path / "study"
    result = run(out)
    assert (result["control_auc"], result["leaky_auc"], result["repeated_auc"]) == (None, None, None)
    control, leakage, repeats = (json.loads((out / name).read_text()) for name in RESULTS)
    for told in (*control["shuffles"], leakage, *repeats["repeats"]):
        assert told["failed"] == "fold 0: its worker process died 1 times"
    own = Study.load(undisturbed).predictions.query("repeat == 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(Study.load(out).predictions, own)
    page = write_report([out]).read_text(encoding="utf-8")
    assert "No-signal control" in page
    assert "its worker process died 1 times" in page


def test_an_error_in_one_step_costs_the_others_nothing(
    undisturbed: Path, cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("something that nobody expected")

    monkeypatch.setattr(steps, "run_control", fail)
    out = tmp_path / "study"
    result = run(out)
    assert result["failed_steps"] == {"control": "ValueError: something that nobody expected"}
    assert not (out / "control.json").exists()
    for name in RESULTS[1:]:
        assert json.loads((out / name).read_text()) == json.loads((undisturbed / name).read_text())
    assert "one step failed (control): ValueError" in write_report([out]).read_text(encoding="utf-8")
    monkeypatch.undo()
    assert run(out)["failed_steps"] == {}  # resumed
    assert json.loads((out / "control.json").read_text()) == json.loads((undisturbed / "control.json").read_text())
