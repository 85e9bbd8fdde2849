"""The steps after a search: controls, baselines, a reference network, repeated and nested cross-validation.

A step that fails costs the study nothing else: its tables and its report are written without it, and say so.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.distributed.after_search.negative_controls import (
    is_controlled,
    is_leakage_known,
    run_control,
    run_leaky,
)
from diagram_ray.distributed.after_search.nested_cv import is_nested, missing, run_nested
from diagram_ray.distributed.after_search.reference_network import NAME, lacks_reference, run_reference
from diagram_ray.distributed.after_search.repeated_cv import is_repeated, run_repeats
from diagram_ray.distributed.after_search.trivial_baselines import has_baselines, run_baselines
from diagram_ray.errors import one_line
from diagram_ray.results import best_of
from diagram_ray.study.nested_plan import price
from diagram_ray.training.runs.trial import cannot_write

log = logging.getLogger("diagram_ray")


@dataclass(frozen=True)
class Step:
    """A measurement after a search."""

    name: str
    """Name of the step in study.yaml, if it fails."""
    announcement: str
    is_done: Callable[[], bool]
    """Function that returns whether there is nothing to do."""
    run: Callable[[], object]


def tell_price(study: EndedStudy) -> None:
    """Logs what repeats and nested cross-validation will cost. Raises ConfigError for a study that cannot be nested."""
    further = study.config.repeats - 1
    if further:
        cost = further * study.ladder.rungs[-1].fold_epochs
        log.info("price of %d further repeats of the winner: %d fold-epochs", further, cost)
    if study.config.control.nested:
        log.info("price of nested cross-validation: %s", price(study.config, study.ladder, study.lookback))


def run_steps(study: EndedStudy, cluster: Cluster, announce: Callable[[str], None]) -> dict[str, str]:
    """Runs the steps that the study needs and has not yet. Returns the names of those that failed, and why.

    Raises where nothing can be written any more.
    """
    best = best_of(study.trials)
    failed: dict[str, str] = {}
    for step in _steps(study, best.number, cluster) if best is not None else ():
        if cluster.stopping():
            break
        try:
            if not step.is_done():
                announce(step.announcement)
                step.run()
        except Exception as error:  # of the training, of Ray, of damaged files: the search is worth more than this
            if cannot_write(error):
                raise
            log.debug("%s failed", step.name, exc_info=error)
            failed[step.name] = one_line(error)
            log.error("%s failed: %s; the study is reported without it", step.name, failed[step.name])
    return failed


def _steps(study: EndedStudy, winner: int, cluster: Cluster) -> tuple[Step, ...]:
    """All steps in their order: the cheapest evidence first."""
    return (
        Step(
            "control",
            f"control: trial {winner} on labels shuffled by patient",
            lambda: is_controlled(study, winner),
            lambda: run_control(study, winner, cluster),
        ),
        Step(
            "leakage price",
            f"price of leakage: trial {winner} with folds assigned by image",
            lambda: is_leakage_known(study, winner),
            lambda: run_leaky(study, winner, cluster),
        ),
        Step(
            "trivial baselines",
            "trivial baselines: what grey levels, breast size and the files' facts tell on the same folds",
            lambda: has_baselines(study),
            lambda: run_baselines(study, cluster),
        ),
        Step(
            "reference network",
            f"reference network: what {NAME} tell on the same folds, nothing trained but a logistic regression",
            lambda: not lacks_reference(study),
            lambda: run_reference(study, cluster),
        ),
        Step(
            "repeats",
            f"repeats: trial {winner} on folds assigned anew",
            lambda: is_repeated(study, winner),
            lambda: run_repeats(study, winner, cluster),
        ),
        Step(
            "nested cross-validation",
            "nested cross-validation: the search again without each fold",
            lambda: _need_not_nest(study),
            lambda: run_nested(study, cluster),
        ),
    )


def _need_not_nest(study: EndedStudy) -> bool:
    if not study.config.control.nested or is_nested(study):
        return True
    if waits := missing(study):
        log.warning("nested cross-validation waits for trial %d, which has yet to start", waits[0])
    return bool(waits)
