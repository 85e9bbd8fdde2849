"""The doctor finds damaged trivial baselines and reference scores, and removes them: they need no training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from diagram_ray.auditing.baselines import measure, question
from diagram_ray.config import DataConfig
from diagram_ray.data.splits import Splits
from diagram_ray.results import BASELINE_SCORES, BASELINES, REFERENCE, REFERENCE_SCORES
from tests.support.studies.doctor import findings, invoke
from tests.support.studies.small_study import make_study
from tests.support.training.tiny_data import tiny_data


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = Path(str(make_study(tmp_path_factory.mktemp("made"))))
    splits = Splits.from_json((study / "splits.json").read_text(), "splits.json")
    found = measure(question(tiny_data(), splits, None, DataConfig()), lambda: False)
    assert found is not None
    found.scores.to_parquet(study / BASELINE_SCORES)
    told = {"identity": "x", "groups": found.groups, "absent": found.absent, "unmeasured": "", "seconds": 0.1}
    (study / BASELINES).write_text(json.dumps(told))
    return study


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "study"))


def test_sound_baselines_and_the_lack_of_any_are_no_findings(study: Path) -> None:
    assert findings(invoke(study, "--json")) == []
    (study / BASELINE_SCORES).unlink()
    (study / BASELINES).write_text(json.dumps({"groups": [], "absent": [], "unmeasured": "nothing varies"}))
    assert findings(invoke(study, "--json")) == []
    (study / BASELINES).unlink()
    assert findings(invoke(study, "--json")) == []


def _score(study: Path, name: str = BASELINE_SCORES) -> None:
    table = pd.read_parquet(study / name)
    first = (table["group"] == table["group"].iloc[0]) & (table["fold"] == 1)
    table.loc[first, "score"] = range(first.sum())
    table.to_parquet(study / name)


def _fold(study: Path) -> None:
    table = pd.read_parquet(study / BASELINE_SCORES)
    table["fold"] = (table["fold"] + 1) % 3
    table.to_parquet(study / BASELINE_SCORES)


@pytest.mark.parametrize(
    ("harm", "where", "what"),
    [
        (lambda study: (study / BASELINES).unlink(), BASELINES, "missing, but baselines.parquet is there"),
        (lambda study: (study / BASELINE_SCORES).unlink(), BASELINE_SCORES, "missing, but baselines.json is there"),
        (lambda study: (study / BASELINES).write_text("{"), BASELINES, "cannot be read: JSONDecodeError"),
        (lambda study: (study / BASELINES).write_text("{}"), BASELINES, "cannot be read: KeyError"),
        (lambda study: (study / BASELINE_SCORES).write_bytes(b"PAR1"), BASELINES, "cannot be read: ArrowInvalid"),
        (_score, BASELINE_SCORES, "fold 1 has the AUC"),
        (_fold, BASELINE_SCORES, "has patient p00 in fold 2, unlike splits.json"),
    ],
)
def test_damage_is_found_and_removed(study: Path, harm: Callable[[Path], None], where: str, what: str) -> None:
    harm(study)
    found = invoke(study, "--json")
    assert found.exit_code == 1
    first = findings(found)[0]
    assert first["where"] == where
    assert what in first["what"]
    assert first["what"].endswith("; tune --resume measures the baselines anew")
    assert invoke(study, "--fix").exit_code == 0
    assert not (study / BASELINES).exists()
    assert not (study / BASELINE_SCORES).exists()
    assert findings(invoke(study, "--json")) == []


def _as_reference(study: Path) -> None:
    """The same files under the names that a reference network's have."""
    shutil.copy(study / BASELINES, study / REFERENCE)
    shutil.copy(study / BASELINE_SCORES, study / REFERENCE_SCORES)


def test_a_sound_reference_network_is_no_finding(study: Path) -> None:
    _as_reference(study)
    assert findings(invoke(study, "--json")) == []


@pytest.mark.parametrize(
    ("harm", "where", "what"),
    [
        (lambda study: (study / REFERENCE).unlink(), REFERENCE, "missing, but reference.parquet is there"),
        (lambda study: (study / REFERENCE_SCORES).unlink(), REFERENCE_SCORES, "missing, but reference.json is there"),
        (lambda study: (study / REFERENCE).write_text("[]"), REFERENCE, "cannot be read: TypeError"),
        (lambda study: _score(study, REFERENCE_SCORES), REFERENCE_SCORES, "fold 1 has the AUC"),
    ],
)
def test_damage_to_a_reference_network_is_found_and_removed_alone(
    study: Path, harm: Callable[[Path], None], where: str, what: str
) -> None:
    _as_reference(study)
    harm(study)
    first = findings(invoke(study, "--json"))[0]
    assert first["where"] == where
    assert what in first["what"]
    assert first["what"].endswith("; tune --resume measures the reference network anew")
    assert invoke(study, "--fix").exit_code == 0
    assert not (study / REFERENCE).exists()
    assert not (study / REFERENCE_SCORES).exists()
    assert (study / BASELINES).exists()
    assert (study / BASELINE_SCORES).exists()
    assert findings(invoke(study, "--json")) == []
