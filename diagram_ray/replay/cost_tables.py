"""Two tables of the command line: what a study would have cost otherwise, and on another cluster."""

import math
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table

from diagram_ray.replay.alternatives import WITHIN, alternatives
from diagram_ray.replay.forecasts import forecasts, read_cluster, read_scenario
from diagram_ray.replay.simulated_cluster import HOUR
from diagram_ray.storage.paths import Place

REPLAYS = 200
WIDTH = 200
"""Characters that a table may take: it is never folded, whatever the terminal."""


def show_alternatives(folder: Place, assignments: list[str]) -> dict[str, Any]:
    """Prints a line for each way to search, the dearest first, and returns the same as plain values."""
    table = _table("of the complete trials, in 200 random orders", "cost", "best dropped", "AUC lost", "good one after")
    rows = []
    for alternative in alternatives(folder, assignments, REPLAYS):
        summary = alternative.summary
        reached = None if math.isinf(summary.reached) else summary.reached
        figures = f"{summary.cost:.0%}", f"{summary.dropped:.0%}", f"{summary.regret:.4f}"
        table.add_row(alternative.name, *figures, "never" if reached is None else f"{reached:.0f}")
        rows.append(alternative.row() | {"reached": reached})
    _print(table)
    typer.echo(f"cost: part of all fold-epochs; a good one: within {WITHIN} AUC of the best, after so many fold-epochs")
    return {"study": str(folder), "ways": rows}


def show_forecasts(source: Place, settings: str, assignments: list[str]) -> dict[str, Any]:
    """Prints a line for each lookback of a study on a simulated cluster, and returns the same as plain values."""
    cluster, scenario = read_cluster(settings), read_scenario(source, assignments)
    recorded, trials = scenario.recording.configurations, cluster.trials or scenario.recording.configurations
    drawn = f"; {trials - recorded} of them are drawn again from those" if trials > recorded else ""
    typer.echo(f"{trials} trials, {recorded} configurations recorded{drawn}")
    table = _table(
        *("lookback", "hours", "worker-hours", "in use", "starting", "waiting", "again", "taken away", "cost"),
        *("fold-epochs", "AUC lost"),
    )
    rows = []
    for line in forecasts(scenario, cluster):
        forecast = line.forecast
        hours = (forecast.starting, forecast.waiting, forecast.again)
        table.add_row(
            *(str(line.lookback), f"{forecast.seconds / HOUR:.2f}", f"{forecast.hours:.1f}", f"{forecast.use:.0%}"),
            *(f"{value:.1f}" for value in hours),
            *(str(forecast.preemptions), f"{forecast.cost:.2f}", str(forecast.fold_epochs), f"{line.lost:.4f}"),
        )
        rows.append(line.row())
    _print(table)
    typer.echo(
        "hours: from the first start to the last end; starting, waiting, again (trained once more): worker-hours"
    )
    return {"source": str(source), "trials": trials, "recorded": recorded, "lookbacks": rows}


def _table(first: str, *others: str) -> Table:
    columns = (Column(name, justify="right", no_wrap=True) for name in others)
    return Table(Column(first, no_wrap=True), *columns, box=None, pad_edge=False, header_style="")


def _print(table: Table) -> None:
    Console(width=WIDTH, markup=False, highlight=False).print(table)
