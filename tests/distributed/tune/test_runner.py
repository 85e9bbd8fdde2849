"""The search on a real local Ray, with training that takes no time: identical, crash-proof, polite."""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import ray
import torch
import yaml

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet.memory_map import CACHE, open_training_data
from diagram_ray.distributed.resources import TrialResources, divide_resources
from diagram_ray.distributed.work import cross_validation
from diagram_ray.errors import DiagramError, UsageError
from diagram_ray.results import Study, TrialState
from diagram_ray.study.config import ParallelConfig, ScalingConfig
from diagram_ray.study.ledger import open_ledger, read_ledger
from diagram_ray.study.study_folder import leftovers
from diagram_ray.study.trial_files import TrialFiles
from tests.support.fake_study import DRIVER, drive, training
from tests.support.training.tiny_data import tiny_data, write_dataset

TIMES = ["seconds", "worker_seconds"]

pytestmark = pytest.mark.ray


@pytest.fixture
def slow(cluster: dict[str, str]) -> Iterator[Path]:
    """A file; while it is there, training takes time."""
    path = Path(cluster["FAKE_FOLDER"]) / "slow"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def run(out: Path, *assignments: str) -> dict:
    return drive.run(out, list(assignments))


@pytest.fixture(scope="module")
def undisturbed(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    began = time.monotonic()
    run(out)
    print(f"\nundisturbed: 12 trials in {time.monotonic() - began:.1f} s")
    print(f"trials started anew in {_starts(out)} s each")
    return out


def _starts(out: Path) -> str:
    """Median time between a trial's start on a warm worker and its first measurement."""
    events = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    asked = {event["trial"]: event["time"] for event in events if event["event"] == "asked"}
    first = {event["trial"]: event["time"] for event in reversed(events) if event["event"] == "measured"}
    return f"{statistics.median(first[number] - asked[number] for number in list(first)[2:]):.3f}"


def table(out: Path, name: str = "trials") -> pd.DataFrame:
    return pd.read_parquet(out / f"{name}.parquet").drop(columns=TIMES, errors="ignore")


def assert_same(out: Path, other: Path) -> None:
    for name in ("trials", "curves", "predictions"):
        pd.testing.assert_frame_equal(table(out, name), table(other, name), check_exact=True)
    assert sorted((file.name, file.read_bytes()) for file in (out / "best").iterdir()) == sorted(
        (file.name, file.read_bytes()) for file in (other / "best").iterdir()
    )


@contextlib.contextmanager
def driver(out: Path, cluster: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A driver process of its own."""
    process = subprocess.Popen(
        [*DRIVER, str(out)], env=cluster, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_events(out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not (out / "ledger.jsonl").exists() or (out / "ledger.jsonl").read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the driver does not get on"
        time.sleep(0.02)


def test_the_same_study_twice_is_the_same(undisturbed: Path, tmp_path: Path) -> None:
    result = run(
        tmp_path / "again", "parallel.trials=2", "parallel.lookback=4", "control.shuffles=2", "control.leakage=true"
    )
    assert_same(tmp_path / "again", undisturbed)
    control = json.loads((tmp_path / "again" / "control.json").read_text())
    assert control["trial"] == result["best"]["number"]
    assert [shuffle["seed"] for shuffle in control["shuffles"]] == [0, 1]
    assert control["shuffles"][0] != control["shuffles"][1]
    assert result["control_auc"] == control["auc_mean"]
    leakage = json.loads((tmp_path / "again" / "leakage.json").read_text())
    assert leakage["trial"] == result["best"]["number"]
    assert result["leaky_auc"] == leakage["auc_mean"] == statistics.fmean(leakage["fold_auc"])
    assert leakage["fold_auc"] != control["shuffles"][0]["fold_auc"]
    trials = table(undisturbed)
    assert set(trials["state"]) == {"COMPLETE", "PRUNED"}
    assert trials["reason"][trials["state"] == "PRUNED"].str.startswith("pruned: ").all()


def test_a_race_drops_trials_and_does_not_depend_on_how_many_run(cluster: dict[str, str], tmp_path: Path) -> None:
    race = ["race.rule=aggressive", "race.alpha=0.0", "parallel.lookback=3", "trials=16", "seed=6"]
    run(tmp_path / "two", *race, "parallel.trials=2")
    run(tmp_path / "one", *race, "parallel.trials=1")
    assert_same(tmp_path / "two", tmp_path / "one")
    trials = table(tmp_path / "two").set_index("number")
    dropped = trials[trials["reason"].str.endswith("(aggressive)")]
    assert len(dropped) == 4
    assert set(dropped["state"]) == {"PRUNED"}
    assert dropped["reason"].str.contains("against .* of trial .* that trial's 3 folds have .* in the mean").all()


def test_workers_map_pixels_that_are_on_the_disk(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    data = tiny_data()
    write_dataset(tmp_path / "data", data)
    found = open_training_data(str(tmp_path / "data"), DataConfig(), "disk")
    environment = {"env_vars": {CACHE: str(tmp_path / "cache")}}
    task = ray.remote(num_cpus=0, runtime_env=environment)(lambda it: (type(it.images).__name__, it.images.sum()))
    assert ray.get(task.remote(ray.put(found))) == ("MappedPixels", data.images.sum())
    assert len(list((tmp_path / "cache").glob("*/images.npy"))) == 1


@pytest.mark.usefixtures("cluster")
def test_workers_compute_in_one_thread_whatever_is_set_here() -> None:
    told = ray.remote(num_cpus=0)(lambda: [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")])
    assert ray.get(told.remote()) == ["1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_the_sides_of_the_images_stand_in_the_folder(undisturbed: Path) -> None:
    images = Study.load(undisturbed).images
    assert images is not None
    assert set(images["image_id"]) == set(pd.read_parquet(undisturbed / "predictions.parquet")["image_id"])
    assert set(images["laterality"]) == {"L"}


def test_the_trivial_baselines_are_on_the_studys_folds_and_stay_as_they_are(
    undisturbed: Path, cluster: dict[str, str], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "copy"))
    study, before = Study.load(out), (out / "baselines.json").read_bytes()
    table = study.baseline_predictions
    assert (table["patient_id"].map(study.splits["patients"]) == table["fold"]).all()
    assert set(table.groupby("group")["image_id"].nunique()) == {study.predictions["image_id"].nunique()}
    run(out)
    assert (out / "baselines.json").read_bytes() == before, "with the seconds that it took"
    for name in ("baselines.json", "baselines.parquet"):
        (out / name).unlink()
    run(out)
    pd.testing.assert_frame_equal(Study.load(out).baseline_predictions, table, check_exact=True)


def test_the_reference_network_is_on_the_studys_folds_and_stays_as_it_is(
    undisturbed: Path, cluster: dict[str, str], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "copy"))
    study, before = Study.load(out), (out / "reference.json").read_bytes()
    table = study.reference_predictions
    assert (table["patient_id"].map(study.splits["patients"]) == table["fold"]).all()
    assert table["image_id"].is_unique
    assert set(table["image_id"]) == set(study.predictions["image_id"])
    run(out)
    assert (out / "reference.json").read_bytes() == before, "with the seconds that it took"


def test_only_the_winners_models_stay_and_no_checkpoint(undisturbed: Path) -> None:
    trials = table(undisturbed)
    complete = trials[trials["state"] == "COMPLETE"]
    winner = complete["number"][complete["auc_mean"].idxmax()]
    kept = [n for n in trials["number"] if TrialFiles.of(undisturbed, n).models.is_dir()]
    assert kept == [winner]
    assert not (undisturbed / "checkpoints").exists()
    assert not list(undisturbed.glob(".tune-*"))


def test_what_killed_processes_left_goes_even_when_nothing_is_left_to_do(
    undisturbed: Path, cluster: dict[str, str], tmp_path: Path
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "study")
    for left in (".tune-0a/tune/x", ".best.new/config.yaml", "page.url", "trials/0001/.curves.parquet.4711-140"):
        (out / left).parent.mkdir(parents=True, exist_ok=True)
        (out / left).touch()
    assert len(leftovers(out)) == 4
    run(out)
    assert leftovers(out) == []
    assert_same(out, undisturbed)


def test_interrupted_killed_and_resumed_it_is_the_same_and_no_rung_is_done_twice(
    undisturbed: Path, cluster: dict[str, str], slow: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "study", slow.with_name("log")
    with driver(out, cluster) as process:
        wait_for_events(out, 7)
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        print(f"\nstopped {time.monotonic() - asked:.1f} s after SIGINT")
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert yaml.safe_load((out / "study.yaml").read_text())["interrupted"] == "interrupted"
    assert "RUNNING" in table(out)["state"].tolist()
    assert not list(out.glob(".tune-*"))
    first, lines = done_so_far(out), log.read_text().count("\n")

    with driver(out, cluster) as process:
        wait_for_events(out, 18)
        process.kill()
    time.sleep(1)  # the killed driver's workers may still be writing
    assert any(trial.state is TrialState.RUNNING for trial in read_ledger(out).values())
    assert_not_repeated(log, lines, first)

    second, lines = done_so_far(out), log.read_text().count("\n")
    slow.unlink()
    run(out)
    assert_same(out, undisturbed)
    assert_not_repeated(log, lines, second)


def done_so_far(out: Path) -> dict[float, int]:
    """A trial's weight decay -> epochs at its last rung."""
    trials = read_ledger(out).values()
    return {trial.params["training.weight_decay"]: trial.last.epochs for trial in trials if trial.last}


def assert_not_repeated(log: Path, since: int, done: dict[float, int]) -> None:
    """After line `since` no epoch was trained that was `done`."""
    trained = [line.split() for line in log.read_text().splitlines()[since:]]
    assert trained
    assert not [entry for entry in trained if int(entry[2]) <= done.get(float(entry[0]), 0)]


def test_a_signal_to_ray_as_well_does_not_hang_it(cluster: dict[str, str], slow: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "study", {key: value for key, value in cluster.items() if key != "RAY_ADDRESS"}
    with driver(out, alone) as process:
        wait_for_events(out, 4)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open((out / "page.url").read_text().strip(), timeout=30) as answer:
            page = answer.read().decode()
        assert "<h1>fake</h1>" in page
        assert "running</span>" in page
        os.killpg(process.pid, signal.SIGTERM)  # its Ray is in the same group
        _, errors = process.communicate(timeout=50)
    assert process.returncode == 130, errors
    assert "token=" not in errors
    assert table(out)["auc_mean"].notna().any()
    assert yaml.safe_load((out / "study.yaml").read_text())["interrupted"] == "interrupted"


def test_bad_configurations_fail_with_their_reason_and_the_study_goes_on(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    space = '{"training.k": {"type": "categorical", "choices": [1, 13, 14, 15]}}'
    # Four points of a Sobol sequence take each of the four choices once.
    result = run(tmp_path / "study", f"space={space}", "trials=4", "sampler.name=qmc")
    trials = table(tmp_path / "study").set_index("params.training.k")
    assert trials["reason"].to_dict() == {
        1: "",
        13: "fold 0 diverged",
        14: "out of memory: 400 GiB",
        15: "its worker process died 3 times",
    }
    assert trials["state"].to_dict() == {1: "COMPLETE", 13: "FAIL", 14: "FAIL", 15: "FAIL"}
    assert trials["fold_epochs"].to_dict() == {1: 18, 13: 3, 14: 0, 15: 0}
    assert result["trials"] == {"complete": 1, "fail": 3}


def test_no_complete_trial_is_an_error_that_says_why(
    cluster: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    for name in ("study.yaml", "splits.json"):
        shutil.copy(undisturbed / name, tmp_path)
    with open_ledger(tmp_path) as ledger:
        for number in range(12):
            ledger.asked(number, {"training.k": 14})
            ledger.ended(number, TrialState.FAIL, "out of memory: 400 GiB")
    with pytest.raises(DiagramError, match="none of 12 trials is complete; trial 0: out of memory: 400 GiB"):
        run(tmp_path)
    assert len(table(tmp_path)) == 12


def test_a_second_driver_is_refused(undisturbed: Path, cluster: dict[str, str]) -> None:
    before = (undisturbed / "study.yaml").read_bytes()
    with open_ledger(undisturbed), pytest.raises(UsageError, match="is being run by process"):
        run(undisturbed)
    assert (undisturbed / "study.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("cluster_resources", "trials", "expected"),
    [
        ({"CPU": 2.0}, None, TrialResources(2, 1.0, 0.0)),
        ({"CPU": 2.0}, 3, TrialResources(3, 0.6666, 0.0)),
        ({"CPU": 16.0, "GPU": 1.0}, None, TrialResources(1, 1.0, 1.0)),
        ({"CPU": 16.0, "GPU": 1.0}, 4, TrialResources(4, 1.0, 0.25)),
        ({"CPU": 64.0, "GPU": 8.0}, None, TrialResources(8, 1.0, 1.0)),
        ({"CPU": 0.5}, None, TrialResources(1, 0.5, 0.0)),
    ],
)
def test_the_cluster_is_divided(
    cluster_resources: dict[str, float], trials: int | None, expected: TrialResources
) -> None:
    assert divide_resources(cluster_resources, ParallelConfig(trials=trials)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, TrialResources(4, 1.0, 0.0)),
        ({"gpus_per_trial": 0.5, "cpus_per_trial": 3.0}, TrialResources(4, 3.0, 0.5)),
    ],
)
def test_an_elastic_cluster_may_be_empty(settings: dict[str, float], expected: TrialResources) -> None:
    assert divide_resources({}, ParallelConfig(trials=4, elastic=True, **settings)) == expected


def test_an_elastic_cluster_may_have_no_room_for_a_group_yet() -> None:
    parallel = ParallelConfig(trials=2, elastic=True)
    assert divide_resources({"CPU": 0.0}, parallel, ScalingConfig(workers=4, gpus_per_worker=1)) == TrialResources(
        2, 1.0, 1.0, 4
    )
    planned = ScalingConfig(folds_at_once="auto")
    assert divide_resources({"CPU": 0.0}, parallel, planned) == TrialResources(2, 1.0, 0.0, folds_at_once=None)


@pytest.mark.parametrize(
    ("cluster_resources", "settings", "told"),
    [
        ({}, {}, "the cluster has no CPU for trials; give parallel.elastic=true"),
        ({"CPU": 4.0}, {"trials": 3, "cpus_per_trial": 2.0}, "3 trials at once need 6 CPUs; there are 4"),
        ({"CPU": 4.0, "GPU": 1.0}, {"trials": 3, "gpus_per_trial": 1.0}, "3 trials at once need 3 GPUs; there are 1"),
    ],
)
def test_a_cluster_without_room_is_refused(
    cluster_resources: dict[str, float], settings: dict[str, float], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        divide_resources({"CPU": 0.0} | cluster_resources, ParallelConfig(**settings))


def test_elastic_needs_to_know_how_many() -> None:
    with pytest.raises(ValueError, match=r"needs parallel\.trials"):
        ParallelConfig(elastic=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the workers: sums over two threads differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_on_ray_it_is_what_one_process_does_by_hand(cluster: dict[str, str], tmp_path: Path) -> None:
    small = "base={model.width: 4, model.generator_width: 4, model.latent_size: 4, training.epochs: 2}"
    settings = [small, "ladder.rungs=null", "parallel.lookback=2", "trials=4"]
    drive.run_on(tmp_path / "ray", settings, training.tiny_data(), cross_validation)
    drive.run_by_hand(tmp_path / "hand", settings, training.tiny_data(), cross_validation)
    assert_same(tmp_path / "ray", tmp_path / "hand")
    assert set(table(tmp_path / "ray")["state"]) == {"COMPLETE", "PRUNED"}


WIDE = """
name: wide
base: {training.epochs: 6, model.generator_width: 4}
space:
  training.weight_decay: {type: float, low: 1.0e-4, high: 1.0e-1, log: true}
  model.width: {type: int, low: 4, high: 12, step: 4}
  model.gan: {type: categorical, choices: [true, false]}
  model.latent_size: {type: int, low: 4, high: 64, when: {model.gan: [true]}}
folds: 3
trials: 16
sampler: {startup_trials: 3}
ladder: {rungs: [[3, 1], [3, 2], [3, 6]], reduction: 2}
parallel: {lookback: 4, trials: 1}
objectives: [auc, parameters]
constraints: {parameters: 200000.0}
budget: {fold_epochs: 60}
control: {shuffles: 0}
"""


def test_conditions_bounds_objectives_warm_start_and_a_budget(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is faster changes nothing; a larger budget goes on with it, and another study learns from it."""
    (tmp_path / "wide.yaml").write_text(WIDE)
    monkeypatch.setattr(drive, "STUDY", tmp_path / "wide.yaml")
    whole, two, warm = (tmp_path / name for name in ("whole", "two", "warm"))
    assert run(two, "parallel.trials=2")["interrupted"] == "fold-epoch budget"
    found = Study.load(two)
    large = found.trials["parameters"] > 200_000
    assert 0 < large.sum() < len(found.trials) < 16
    assert found.trials[large]["fold_epochs"].sum() == 0
    assert found.trials[large]["reason"].str.startswith("constraint: ").all()
    assert (found.trials["params.model.latent_size"].notna() == found.trials["params.model.gan"]).all()
    assert 60 <= found.trials["fold_epochs"].sum() < 60 + 18
    assert len(found.pareto) >= 1

    document = yaml.safe_load((two / "study.yaml").read_text())
    document["study"]["budget"]["fold_epochs"] = 10_000
    (two / "study.yaml").write_text(yaml.safe_dump(document))
    assert run(two)["interrupted"] is None
    assert len(table(two)) == 16
    run(whole, "budget.fold_epochs=null")
    assert_same(whole, two)

    run(warm, f"warm_start=[{json.dumps(str(two))}]", "trials=4")
    source = Study.load(warm).document["warm_start"][0]
    assert (source["told"], source["left_out"]) == (16, {})
    assert len(table(warm)) == 4
    assert json.loads((warm / "warm_start.json").read_text())["sources"] == [source]
