"""What a study looked for besides AUC, in its report and in `Study.pareto`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from diagram_ray.errors import DataError
from diagram_ray.reporting.page import write_report
from diagram_ray.results import Study

BOUND = 2e6


def change(folder: Path, **study: Any) -> Path:
    document = yaml.safe_load((folder / "study.yaml").read_text())
    document["study"] |= study
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture
def weighed(make_study: Callable[..., Path]) -> Path:
    """A study of AUC and parameters, in which three trials were too large, and one setting is conditional."""
    folder = make_study(trials=40, failing=())
    table = pd.read_parquet(folder / "trials.parquet")
    draw = np.random.default_rng(0)
    costs = 1e6 * table["auc_mean"].rank(pct=True) + draw.uniform(2e5, 8e5, len(table))  # good models cost more
    table["parameters"] = np.where(table["number"] % 13 == 12, 5e6, costs.round())
    large = table["parameters"] > BOUND
    assert int(large.sum()) == 3
    table.loc[large, ["auc_mean", "auc_sd"]] = np.nan
    table.loc[large, "state"] = "PRUNED"
    table.loc[table["params.model.norm"] == "batch", "params.model.dropout"] = np.nan
    table.to_parquet(folder / "trials.parquet")
    space = yaml.safe_load((folder / "study.yaml").read_text())["study"]["space"]
    space["model.dropout"]["when"] = {"model.norm": ["group"]}
    constraints = {"parameters": BOUND, "multiply_adds": None}
    return change(folder, objectives=["auc", "parameters"], constraints=constraints, space=space)


def front(table: pd.DataFrame) -> set[int]:
    """Slowly: a trial is on the front if nobody beats it."""
    complete = table[table["state"] == "COMPLETE"]
    rows = list(complete[["number", "auc_mean", "parameters"]].itertuples(index=False, name=None))
    return {n for n, a, p in rows if not any((b >= a and q <= p) and (b > a or q < p) for _, b, q in rows)}


def test_pareto(weighed: Path) -> None:
    study = Study.load(weighed)
    found = study.pareto
    assert set(found["number"]) == front(study.trials)
    assert len(found) > 1
    assert list(found["auc_mean"]) == sorted(found["auc_mean"], reverse=True)
    assert list(found["parameters"]) == sorted(found["parameters"], reverse=True)
    assert found.iloc[0]["number"] == study.best["number"]


def test_with_one_objective_the_front_is_the_best(make_study: Callable[..., Path]) -> None:
    study = Study.load(make_study())
    assert list(study.pareto["number"]) == [study.best["number"]]
    nothing = Study.load(make_study("other", none_complete=True, control=None))
    with pytest.raises(DataError, match="no trial is complete, so there is no Pareto front"):
        _ = nothing.pareto


def test_a_size_that_is_missing_is_named(make_study: Callable[..., Path]) -> None:
    study = Study.load(change(make_study(), objectives=["auc", "memory_mb"]))
    with pytest.raises(DataError, match="column 'memory_mb' is missing"):
        _ = study.pareto


def test_the_report_says_it_in_words(weighed: Path) -> None:
    text = write_report([weighed]).read_text().replace("\u200b", "")
    assert "Searched for a high AUC and few parameters. Trials were compared on the way by their AUC alone" in text
    assert "At most 2,000,000 parameters: 3 of 40 trials had more and were not trained." in text
    assert "model.dropout exists only where model.norm is group." in text
    assert "not compared, because only some trials have them: model.dropout" in text
    assert text.count("multiply-adds") == 0
    table = text.split("The Pareto front</caption>")[1].split("</table>")[0]
    assert table.count("<tr>") == 1 + len(front(Study.load(weighed).trials))
    assert ", best" in table


def test_a_study_without_these_has_no_such_section(make_study: Callable[..., Path]) -> None:
    text = write_report([make_study()]).read_text()
    assert "what the model costs" not in text
    assert "Bounds and conditions" not in text


def test_a_study_of_which_nothing_is_complete(make_study: Callable[..., Path]) -> None:
    folder = make_study(none_complete=True, control=None)
    table = pd.read_parquet(folder / "trials.parquet")
    table["parameters"] = 1e6
    table.to_parquet(folder / "trials.parquet")
    text = write_report([change(folder, objectives=["auc", "parameters"])]).read_text()
    assert "No trial is complete, so there is no front." in text
