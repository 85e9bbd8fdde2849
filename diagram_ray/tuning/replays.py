"""What a study would have cost otherwise, line by line."""

import math
from typing import Any

import typer

from diagram_ray.places import Place
from diagram_ray.search.alternatives import WITHIN, alternatives

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
