"""What finding a good configuration costs: our ladders and races against the usual ways, replayed on a recording.

    python -m benchmarks.search_cost [--recording benchmarks/recorded/phantom.npz] [--replays 200] [--configurations N]
                                     [--turn-folds]

Each way searches the same configurations in the same random orders, one at a time. For each: the median of the
fold-epochs until a complete configuration is within 0.005 AUC of the best there is; the mean of all it costs, as a part
of exhaustive 5-fold cross-validation; how often the best was dropped; by how much the winner falls short.
With --turn-folds each replay begins with the next fold: what is cheap to look at is then another part of the cases.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from diagram_ray.replay.recording import Recording, read_recording
from diagram_ray.replay.replay import Summary, random_orders, replay, sum_up
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.racing import Race

WITHIN = 0.005
NOBODY = 10**9
"""A reduction with which a ladder prunes nobody."""


class Way(NamedTuple):
    name: str
    ladder: Ladder
    race: Race | None = None


def ladder(*rungs: tuple[int, int], reduction: int = NOBODY) -> Ladder:
    return Ladder(tuple(Rung(*rung) for rung in rungs), reduction)


def usual(folds: int, epochs: int) -> list[Way]:
    """What is done elsewhere, as it is documented there."""
    fold_by_fold = ladder(*((fold, epochs) for fold in range(1, folds + 1)))
    thirds = ladder((folds, epochs // 9), (folds, epochs // 3), (folds, epochs), reduction=3)
    return [
        Way("exhaustive cross-validation", ladder((folds, epochs))),
        Way("(a) forgiving early-stopped CV", fold_by_fold, Race("forgiving", 0.0)),
        Way("    aggressive early-stopped CV", fold_by_fold, Race("aggressive", 0.0)),
        Way("(b) ASHA on epochs, all folds", thirds),
        Way("(c) Wilcoxon pruner, p 0.1", fold_by_fold, Race("wilcoxon", 0.1)),
        Way(
            "(d) intensifier, folds as instances",
            ladder((1, epochs), (2, epochs), (4, epochs), (folds, epochs)),
            Race("aggressive", 0.0),
        ),
    ]


def ours(folds: int, epochs: int) -> list[Way]:
    """Ladders over folds and epochs, with and without a race."""
    third, half, most = epochs // 3, epochs // 2, 2 * epochs // 3
    whole = (folds, epochs)
    steps = {
        "5x1 5x3 5x9 5x27": [(folds, 1), (folds, epochs // 9), (folds, third), whole],
        "5x9 5x27": [(folds, third), whole],
        "1x9 5x27": [(1, third), whole],
        "1x9 2x18 5x27": [(1, third), (2, most), whole],
        "1x9 5x9 5x27": [(1, third), (folds, third), whole],
        "1x9 5x9 5x13 5x18 5x27": [(1, third), (folds, third), (folds, half), (folds, most), whole],
        "1x9 3x9 5x9 5x18 5x27": [(1, third), (3, third), (folds, third), (folds, most), whole],
        "1x9 2x13 5x13 5x18 5x27": [(1, third), (2, half), (folds, half), (folds, most), whole],
        "1x9 2x13 3x13 5x13 5x27": [(1, third), (2, half), (3, half), (folds, half), whole],
        "1x9 2x13 3x13 4x13 5x13 5x27": [(1, third), (2, half), (3, half), (4, half), (folds, half), whole],
        "1x13 5x13 5x27": [(1, half), (folds, half), whole],
        "1x27 5x27": [(1, epochs), whole],
    }
    found = []
    for name, rungs in steps.items():
        found += [Way(f"{name} /{reduction}", ladder(*rungs, reduction=reduction)) for reduction in (2, 3, 4)]
        found += [Way(f"{name} bbcd {alpha}", ladder(*rungs), Race("bbcd", alpha)) for alpha in (0.05, 0.1)]
        for reduction, alpha in ((2, 0.05), (3, 0.05), (4, 0.1)):
            way = f"{name} /{reduction} bbcd {alpha}"
            found.append(Way(way, ladder(*rungs, reduction=reduction), Race("bbcd", alpha)))
        found.append(Way(f"{name} delong 0.05", ladder(*rungs), Race("delong", 0.05)))
    return found


def turned(recording: Recording) -> list[Recording]:
    """The same with each fold in the first place in turn."""
    cases, count = recording.cases, recording.folds
    return [replace(recording, cases=replace(cases, folds=(cases.folds - turn) % count)) for turn in range(count)]


def judge(recordings: Sequence[Recording], way: Way, orders: Sequence[Sequence[int]]) -> Summary:
    """`way` on each of the recordings in turn."""
    found = [
        replay(recordings[number % len(recordings)], way.ladder, way.race, order, WITHIN)
        for number, order in enumerate(orders)
    ]
    return sum_up(found, [len(order) * recordings[0].top.fold_epochs for order in orders])


def tell(way: Way, found: Summary) -> None:
    reached = "never" if math.isinf(found.reached) else f"{found.reached:.0f}"
    print(f"{way.name:38} {reached:>7} {found.cost:7.3f} {found.dropped:7.1%} {found.regret:7.4f}", flush=True)


def run(recording: Recording, replays: int, count: int, turn: bool) -> None:
    orders, best = random_orders(recording.configurations, replays), recording.final.max()
    orders = [order[:count] for order in orders]
    good = int((recording.final >= best - WITHIN).sum())
    print(f"{recording.configurations} configurations, best AUC {best:.4f}; {good} are within {WITHIN} of it")
    print(f"{len(orders[0])} in each replay: {len(orders[0]) * recording.top.fold_epochs} fold-epochs in full")
    print(f"{'':38} {'reached':>7} {'cost':>7} {'dropped':>7} {'regret':>7}")
    recordings = turned(recording) if turn else [recording]
    for way in usual(recording.top.folds, recording.top.epochs) + ours(recording.top.folds, recording.top.epochs):
        tell(way, judge(recordings, way, orders))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, default=Path(__file__).parent / "recorded" / "phantom.npz")
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--configurations", type=int, help="so many in each replay, drawn anew (default: all)")
    parser.add_argument("--turn-folds", action="store_true", help="each replay begins with the next fold")
    asked = parser.parse_args()
    recording = read_recording(asked.recording)
    run(recording, asked.replays, asked.configurations or recording.configurations, asked.turn_folds)


if __name__ == "__main__":
    main()
