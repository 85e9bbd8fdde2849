"""The usual ways to search, by the packages themselves, on the recording that `search_cost.py` replays.

    pip install smac          # beside this project; SMAC3's compiled forest, pyrfr, is not needed
    python -m benchmarks.search_peers [--recording benchmarks/recorded/phantom.npz] [--replays 200]

`search_cost.py` replays rules as they are documented; here Optuna's WilcoxonPruner and SMAC3's Intensifier
decide, with folds as instances, over the same configurations in the same random orders; a fold costs all its epochs.
Columns as in `search_cost.py`. A package that is not installed is told and left out.
"""

import argparse
import importlib.util
import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from diagram_ray.replay.recording import Recording, read_recording
from diagram_ray.replay.replay import Outcome, random_orders

WITHIN = 0.005
Aucs = NDArray[np.float64]
Search = Callable[[Aucs, list[int]], list[int]]
"""((C, F) AUC of each fold, order) -> whose fold was trained, in the order of training."""


def optuna_wilcoxon(aucs: Aucs, order: list[int]) -> list[int]:
    """As Optuna documents it for cross-validation: each fold's score is an intermediate value."""
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.WilcoxonPruner(p_threshold=0.1),
    )
    spent: list[int] = []
    for number in order:
        trial = study.ask()
        seen: list[float] = []
        for fold, auc in enumerate(aucs[number]):
            spent.append(number)
            seen.append(float(auc))
            trial.report(seen[-1], fold)
            if trial.should_prune():
                break
        study.tell(trial, float(np.mean(seen)))
    return spent


def smac_intensifier(aucs: Aucs, order: list[int]) -> list[int]:
    """SMAC3's Intensifier, asked and told; the configurations come as its initial design, in this order."""
    from ConfigSpace import Categorical, Configuration, ConfigurationSpace
    from smac import RandomFacade, Scenario
    from smac.initial_design.default_design import DefaultInitialDesign
    from smac.runhistory.dataclasses import TrialValue

    folds = aucs.shape[1]
    space = ConfigurationSpace({"number": Categorical("number", [str(number) for number in order])})
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space, deterministic=True, n_trials=10 * aucs.size, instances=[str(fold) for fold in range(folds)],
            instance_features={str(fold): [fold] for fold in range(folds)}, output_directory=Path(folder), seed=0,
        )  # fmt: skip
        design = DefaultInitialDesign(
            scenario,
            n_configs=0,
            additional_configs=[Configuration(space, {"number": str(number)}) for number in order],
        )
        facade = RandomFacade(
            scenario,
            lambda config, instance, seed=0: 0.0,
            initial_design=design,
            intensifier=RandomFacade.get_intensifier(scenario, max_config_calls=folds),
            overwrite=True,
            logging_level=logging.CRITICAL,
        )
        return _asked(facade, aucs, TrialValue)


def _asked(facade: Any, aucs: Aucs, value: Any) -> list[int]:
    """Asks until all configurations have been looked at; the folds that the incumbent lacks then are trained last."""
    from smac.main.exceptions import ConfigurationSpaceExhaustedException

    spent: list[int] = []
    while True:
        try:
            info = facade.ask()
        except ConfigurationSpaceExhaustedException:
            break
        number = int(info.config["number"])
        spent.append(number)
        facade.tell(info, value(cost=1.0 - float(aucs[number, int(info.instance)])), save=False)
    best = int(facade.intensifier.get_incumbents()[0]["number"])
    return spent + [best] * (aucs.shape[1] - spent.count(best))


def outcome(spent: list[int], final: Aucs, folds: int, epochs: int) -> Outcome:
    """What a search came to."""
    best, counts, complete = float(final.max()), np.zeros(len(final), dtype=int), dict[int, int]()
    for cost, number in enumerate(spent, start=1):
        counts[number] += 1
        if counts[number] == folds:
            complete[number] = cost * epochs
    found = max(float(final[number]) for number in complete)
    good = [when for number, when in complete.items() if final[number] >= best - WITHIN]
    return Outcome(len(spent) * epochs, min(good, default=math.inf), best - found, found < best)


def run(name: str, search: Search, recording: Recording, replays: int) -> None:
    top, count = recording.top, recording.configurations
    aucs = np.array([[fold.auc for fold in recording.case_scores(number, top)] for number in range(count)])
    found = [
        outcome(search(aucs, order), recording.final, top.folds, top.epochs) for order in random_orders(count, replays)
    ]
    reached = float(np.median([each.reached for each in found]))
    cost = float(np.mean([each.fold_epochs for each in found])) / (count * top.fold_epochs)
    dropped = float(np.mean([each.dropped for each in found]))
    regret = float(np.mean([each.regret for each in found]))
    told = "never" if math.isinf(reached) else f"{reached:.0f}"
    print(f"{name:38} {told:>7} {cost:7.3f} {dropped:7.1%} {regret:7.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, default=Path(__file__).parent / "recorded" / "phantom.npz")
    parser.add_argument("--replays", type=int, default=200)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recording = read_recording(asked.recording)
    print(f"{'':38} {'reached':>7} {'cost':>7} {'dropped':>7} {'regret':>7}")
    run(f"Optuna {optuna.__version__}: WilcoxonPruner, p 0.1", optuna_wilcoxon, recording, asked.replays)
    if importlib.util.find_spec("smac") is None:
        print("SMAC3 is left out: it is not installed; pip install smac")
        return
    run("SMAC3: Intensifier, folds as instances", smac_intensifier, recording, asked.replays)


if __name__ == "__main__":
    main()
