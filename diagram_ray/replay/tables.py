"""What a study would have cost otherwise, or would cost on another cluster, line by line."""

import math
from typing import Any

import typer

from diagram_ray.replay.alternatives import WITHIN, alternatives
from diagram_ray.replay.forecasts import forecasts, ground, read_cluster
from diagram_ray.replay.simulated_cluster import HOUR
from diagram_ray.storage.paths import Place

REPLAYS = 200


def show_alternatives(folder: Place, assignments: list[str]) -> dict[str, Any]:
    """A line for each way to search, from the dearest."""
    rows = []
    typer.echo(f"{'of the complete trials, in 200 random orders':46} cost  best dropped  AUC lost  good one after")
    for each in alternatives(folder, assignments, REPLAYS):
        found = each.summary
        when = "never" if math.isinf(found.reached) else f"{found.reached:.0f}"
        typer.echo(f"{each.name:46} {found.cost:4.0%} {found.dropped:13.0%} {found.regret:9.4f} {when:>15}")
        rows.append(each.row() | {"reached": None if math.isinf(found.reached) else found.reached})
    typer.echo(f"cost: part of all fold-epochs; a good one: within {WITHIN} AUC of the best, after so many fold-epochs")
    return {"study": str(folder), "ways": rows}


def show_forecasts(source: Place, settings: str, assignments: list[str]) -> dict[str, Any]:
    """A line for each lookback, of the study on a cluster that is not there."""
    cluster, known = read_cluster(settings), ground(source, assignments)
    recorded, trials = known.recording.configurations, cluster.trials or known.recording.configurations
    drawn = f"; {trials - recorded} of them are drawn again from those" if trials > recorded else ""
    typer.echo(f"{trials} trials, {recorded} configurations recorded{drawn}")
    typer.echo(
        f"{'lookback':>8} {'hours':>8} {'worker-hours':>12} {'in use':>6} {'starting':>8} {'waiting':>8}"
        f" {'again':>6} {'taken away':>10} {'cost':>10} {'fold-epochs':>11} {'AUC lost':>8}"
    )
    rows = []
    for line in forecasts(known, cluster):
        found = line.forecast
        typer.echo(
            f"{line.lookback:8} {found.seconds / HOUR:8.2f} {found.hours:12.1f} {found.use:6.0%} {found.starting:8.1f}"
            f" {found.waiting:8.1f} {found.again:6.1f} {found.preemptions:10} {found.cost:10.2f} {found.fold_epochs:11}"
            f" {line.lost:8.4f}"
        )
        rows.append(line.row())
    typer.echo(
        "hours: from the first start to the last end; starting, waiting, again (trained once more): worker-hours"
    )
    return {"source": str(source), "trials": trials, "recorded": recorded, "lookbacks": rows}
