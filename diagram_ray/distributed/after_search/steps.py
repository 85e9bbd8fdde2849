"""What follows a search: trivial baselines, a reference network, repeated and nested cross-validation.

The last two if the study asks for them; their price is told first.
"""

import logging
from collections.abc import Callable

from diagram_ray.distributed.after_search.ended_study import Searched
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.distributed.after_search.nested_cv import is_nested, missing, run_nested
from diagram_ray.distributed.after_search.reference_network import (
    NAME,
    lacks_reference,
    run_reference,
)
from diagram_ray.distributed.after_search.repeated_cv import is_repeated, run_repeats
from diagram_ray.distributed.after_search.trivial_baselines import has_baselines, run_baselines
from diagram_ray.results import best_of
from diagram_ray.study.nested_plan import price

log = logging.getLogger("diagram_ray")


def tell_price(searched: Searched) -> None:
    """Into the log, before the search begins. Raises ConfigError for a study that cannot be nested."""
    study, further = searched.study, searched.study.repeats - 1
    if further:
        cost = further * searched.ladder.rungs[-1].fold_epochs
        log.info("price of %d further repeats of the winner: %d fold-epochs", further, cost)
    if study.control.nested:
        log.info("price of nested cross-validation: %s", price(study, searched.ladder, searched.lookback))


def run_further(searched: Searched, cluster: Cluster, announce: Callable[[str], None]) -> None:
    """Runs what is asked for and not there yet. Raises what `run_repeats` and `run_nested` raise."""
    best = best_of(searched.trials)
    if best is None:
        return
    if not cluster.stopping() and not has_baselines(searched):
        announce("trivial baselines: what grey levels, breast size and the files' facts tell on the same folds")
        run_baselines(searched, cluster)
    if not cluster.stopping() and lacks_reference(searched):
        announce(f"reference network: what {NAME} tell on the same folds, nothing trained but a logistic regression")
        run_reference(searched, cluster)
    if not cluster.stopping() and not is_repeated(searched, best.number):
        announce(f"repeats: trial {best.number} on folds dealt anew")
        run_repeats(searched, best.number, cluster)
    if not searched.study.control.nested or cluster.stopping() or is_nested(searched):
        return
    if waits := missing(searched):
        log.warning("nested cross-validation waits for trial %d, which has yet to start", waits[0])
        return
    announce("nested cross-validation: the search again without each fold")
    run_nested(searched, cluster)
