"""A study's folder is made once, never written over, and tells how it was run."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from diagram_ray.errors import ConfigError, DataError, UsageError
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import remove
from diagram_ray.study.config import read_study
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.study_folder import (
    Plan,
    check_free,
    make_folder,
    new_document,
    read_plan,
    write_document,
)
from tests.support.repository import ROOT

STUDY = ROOT / "search_spaces" / "quickstart.yaml"
INFO = {"name": "phantom", "fingerprint": "abc", "counts": {"images": 4}}


def plan() -> Plan:
    study, base = read_study(STUDY, ["training.betas=[0.4, 0.9]"])
    return Plan(study.resolved(base.training.epochs, 2), base, "s3://bucket/data", None)


def test_the_plan_survives_study_yaml(tmp_path: Path) -> None:
    write_document(tmp_path, new_document(plan(), INFO, ("benign", "cancer")))
    assert read_plan(tmp_path) == replace(plan(), out=tmp_path, resume=True)
    document = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert list(document) == [
        "id", "study", "experiment", "dataset", "classes", "init_from", "versions", "command", "started", "seconds",
        "interrupted",
    ]  # fmt: skip
    assert document["dataset"] == INFO | {"uri": "s3://bucket/data"}
    assert {"python", "ray", "optuna", "torch"} <= set(document["versions"])


@pytest.mark.parametrize("missing", ["study", "experiment", "dataset"])
def test_a_damaged_study_yaml_is_one_sentence(tmp_path: Path, missing: str) -> None:
    document = new_document(plan(), INFO, ("benign", "cancer"))
    del document[missing]
    write_document(tmp_path, document)
    with pytest.raises((DataError, ConfigError), match=r"study\.yaml: cannot be resumed: "):
        read_plan(tmp_path)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a study: it has no study\.yaml"):
        read_plan(tmp_path)


def test_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [make_folder(None, "quick").relative_to(tmp_path).as_posix() for _ in range(3)]
    assert names == ["runs/quick-1", "runs/quick-2", "runs/quick-3"]


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "new" / "study", "x").is_dir()
    (tmp_path / "study.yaml").touch()
    with pytest.raises(UsageError, match="holds a study already; go on with it by --resume"):
        check_free(tmp_path)
    (tmp_path / "study.yaml").rename(tmp_path / "thesis.doc")
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        make_folder(tmp_path, "x")
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        check_free(tmp_path / "thesis.doc")


def test_in_a_store_a_ledger_without_trials_is_taken_up() -> None:
    """Nothing was trained: the driver ended before it had written study.yaml."""
    place = StorePath("memory://bucket/begun")
    try:
        with open_ledger(place):
            pass
        check_free(place)
        with open_ledger(place) as ledger:
            ledger.asked(0, {})
        with pytest.raises(UsageError, match="memory://bucket/begun: holds a study already; go on with it by --resume"):
            check_free(place)
    finally:
        remove(place)
