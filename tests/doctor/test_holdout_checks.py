"""The doctor on nested and repeated cross-validation: what was broken on purpose is found, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from diagram_ray.distributed.after_search import nested_cv, repeated_cv, winner_cv
from diagram_ray.results import Study
from diagram_ray.study.trial_files import TrialFiles
from tests.support.studies.cell_bench import Bench, searched
from tests.support.studies.doctor import content, findings, invoke
from tests.support.studies.small_study import make_study


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory, bench: Bench) -> Path:
    """A study whose nested cross-validation was stopped after five models."""
    study, threads = Path(make_study(tmp_path_factory.mktemp("made"))), torch.get_num_threads()
    torch.set_num_threads(1)
    bench.stop_after = 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nested_cv, "run_fold_tasks", bench)
        assert nested_cv.run_nested(searched(study), None) is None  # type: ignore[arg-type]
    torch.set_num_threads(threads)
    return study


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, cut_off: Path, bench: Bench) -> Path:
    study = Path(shutil.copytree(cut_off, tmp_path_factory.mktemp("whole") / "study"))
    bench.stop_after, threads = 10**6, torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nested_cv, "run_fold_tasks", bench)
        patch.setattr(winner_cv, "run_fold_tasks", bench)
        nested_cv.run_nested(searched(study), None)  # type: ignore[arg-type]
        repeated_cv.run_repeats(searched(study, repeats=2), best_of(study), None)  # type: ignore[arg-type]
    torch.set_num_threads(threads)
    return study


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "study"))


def best_of(study: Path) -> int:
    return int(Study.load(study).best["number"])


@pytest.mark.parametrize("which", ["sound", "cut_off"])
def test_nothing_is_wrong_with_what_is_whole_or_was_stopped(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(request.getfixturevalue(which), tmp_path / "study"))
    before = content(study)
    assert any("/checkpoint/" in name for name in before) == (which == "cut_off")
    result = invoke(study, "--fix")
    assert result.exit_code == 0, result.output
    assert content(study) == before


def pair(study: Path) -> Path:
    """A model without two folds that has been trained to the end."""
    return sorted(study.glob("nested/*/without-?-?/after-2.parquet"))[0]


def folder(path: str) -> Callable[[Path], str]:
    def make(study: Path) -> str:
        (study / path).mkdir(parents=True)
        return path

    return make


def of_repeat(study: Path, rest: str) -> Path:
    return study / "repeats" / f"{best_of(study):04d}" / rest


def stale(study: Path) -> str:
    place = pair(study).parent / "checkpoint"
    place.mkdir()
    return str(place.relative_to(study))


def other_rung(study: Path) -> str:
    path = pair(study).with_name("after-7.parquet")
    shutil.copy(pair(study), path)
    return str(path.relative_to(study))


def other_repeat(study: Path) -> str:
    of_repeat(study, "repeat-0").mkdir()
    return str(of_repeat(study, "repeat-0").relative_to(study))


@pytest.mark.parametrize(
    "harm",
    [
        folder("nested/0099"), folder("nested/000"), folder("nested/0000/without-2-1"), folder("nested/0000/without-3"),
        folder("nested/0000/notes"), folder("repeats/0099"), stale, other_rung, other_repeat,
    ],
)  # fmt: skip
def test_what_is_left_over_is_removed(study: Path, harm: Callable[[Path], str]) -> None:
    before = content(study)
    place = harm(study)
    fixed = invoke(study, "--fix", "--json")
    assert fixed.exit_code == 0, fixed.output
    (finding,) = findings(fixed)
    assert (finding["where"], finding["mended"]) == (place, True)
    assert "left over" in finding["what"]
    assert content(study) == before
    assert not (study / place).exists()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "harm", "gone"),
    [
        ("nested.json", damage, ["nested.json"]),
        ("repeats.json", damage, ["repeats.json"]),
        ("nested/predictions.parquet", damage, ["nested.json"]),
        ("nested/predictions.parquet", Path.unlink, ["nested.json"]),
        ("repeats/BEST/repeat-1.parquet", damage, ["repeats.json", "repeats/BEST/repeat-1.parquet"]),
        ("repeats/BEST/repeat-1.parquet", Path.unlink, ["repeats.json"]),
    ],
)
def test_a_result_is_made_anew(
    study: Path, sound: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, harm: Callable, gone: list[str]
) -> None:
    name, *gone = (each.replace("BEST", f"{best_of(study):04d}") for each in (name, *gone))
    harm(study / name)
    fixed = invoke(study, "--fix", "--json")
    assert fixed.exit_code == 0, fixed.output
    assert [finding["mended"] for finding in findings(fixed)] == [True]
    assert not any((study / each).exists() for each in gone)
    assert invoke(study).exit_code == 0
    monkeypatch.setattr(nested_cv, "run_fold_tasks", bench)
    monkeypatch.setattr(winner_cv, "run_fold_tasks", bench)
    count = len(bench.trained)
    if not nested_cv.is_nested(searched(study)):
        nested_cv.run_nested(searched(study), None)  # type: ignore[arg-type]
    if not repeated_cv.is_repeated(searched(study, repeats=2), best_of(study)):
        repeated_cv.run_repeats(searched(study, repeats=2), best_of(study), None)  # type: ignore[arg-type]
    assert len(bench.trained) == count  # no model is trained for it
    assert content(study) == content(sound)


def test_damaged_scores_are_removed_if_no_result_rests_on_them(cut_off: Path, sound: Path, tmp_path: Path) -> None:
    for study, fate in ((cut_off, True), (sound, False)):
        mine = Path(shutil.copytree(study, tmp_path / str(fate)))
        path = pair(mine)
        damage(path)
        result = invoke(mine, "--fix", "--json")
        (finding,) = findings(result)
        assert (finding["where"], finding["mended"]) == (str(path.relative_to(mine)), fate)
        assert "cannot be read" in finding["what"]
        assert path.exists() != fate
        assert invoke(mine).exit_code == (0 if fate else 1)


def rewrite(path: Path, change: Callable[[pd.DataFrame], object]) -> None:
    """Another content with the same metadata."""
    table = pq.read_table(path)
    frame = table.to_pandas()
    change(frame)
    changed = pa.Table.from_pandas(frame, preserve_index=False).cast(pa.schema(table.schema, metadata=None))
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)


def turned(frame: pd.DataFrame) -> None:
    frame.loc[frame["fold"] == 0, "score"] *= -1.0


def shifted(frame: pd.DataFrame) -> None:
    """The order of the images, and so the AUC, stays."""
    frame["score"] = np.exp(frame["score"])


def no_number(frame: pd.DataFrame) -> None:
    frame.loc[0, "score"] = np.nan


def of_another(study: Path) -> tuple[str, str]:
    path = pair(study)
    other = path.parent.with_name("without-1-2") / path.name
    other.parent.mkdir(exist_ok=True)
    shutil.copy(path, other)
    return str(other.relative_to(study)), "is of another model: without is [0, 1] there; by the ledger it is [1, 2]"


def not_finite(study: Path) -> tuple[str, str]:
    rewrite(pair(study), no_number)
    return str(pair(study).relative_to(study)), "has scores that are no numbers"


def nested_auc(study: Path) -> tuple[str, str]:
    rewrite(study / "nested" / "predictions.parquet", turned)
    return "nested/predictions.parquet", "fold 0 has the AUC"


def nested_winner(study: Path) -> tuple[str, str]:
    told = json.loads((study / "nested.json").read_text())
    told["folds"][1]["winner"] = (told["folds"][1]["winner"] + 1) % 4
    (study / "nested.json").write_text(json.dumps(told))
    return "nested/predictions.parquet", f"fold 1 is not of trial {told['folds'][1]['winner']}"


def repeat_auc(study: Path) -> tuple[str, str]:
    told = json.loads((study / "repeats.json").read_text())
    told["repeats"][0]["fold_auc"][2] = 0.123
    (study / "repeats.json").write_text(json.dumps(told))
    return str(of_repeat(study, "repeat-1.parquet").relative_to(study)), "repeats.json says 0.123000"


def repeat_model(study: Path) -> tuple[str, str]:
    path = of_repeat(study, "repeat-1/without-1/after-2.parquet")
    rewrite(path, shifted)
    return str(of_repeat(study, "repeat-1.parquet").relative_to(study)), "fold 1 has other scores of"


def repeat_lost(study: Path) -> tuple[str, str]:
    path = of_repeat(study, "repeat-1/without-1")
    shutil.rmtree(path)
    return str((path / "after-2.parquet").relative_to(study)), "missing; fold 1 of repeats/"


@pytest.mark.parametrize(
    "harm", [of_another, not_finite, nested_auc, nested_winner, repeat_auc, repeat_model, repeat_lost]
)
def test_what_disagrees_is_told_and_left(study: Path, harm: Callable[[Path], tuple[str, str]]) -> None:
    place, words = harm(study)
    before = content(study)
    result = invoke(study, "--fix", "--json")
    assert result.exit_code == 1, result.output
    found = findings(result)
    assert {finding["where"] for finding in found} == {place}
    assert any(words in finding["what"] for finding in found)
    assert content(study) == before


def test_the_scores_of_a_winner_are_those_of_its_own_fold(study: Path) -> None:
    told = json.loads((study / "nested.json").read_text())["folds"][2]
    own = TrialFiles.of(study, told["winner"]).predictions
    model = study / "nested" / f"{told['winner']:04d}" / "without-2" / "after-2.parquet"
    assert own.is_file() != model.is_file()
    rewrite(own if own.is_file() else model, shifted)
    found = {finding["where"]: finding["what"] for finding in findings(invoke(study, "--json"))}
    assert "fold 2 has other scores of" in found["nested/predictions.parquet"]
