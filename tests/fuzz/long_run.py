"""Many cases: python -m tests.fuzz.long_run --cases 50000 [--target ddsm] [--first 0] [--keep FOLDER]

Prints a line for each fault and a table at the end. `--case ddsm/17` reads one case in this process and says what it
becomes; with `--keep`, its folder stays there.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.allcases import HANDMADE
from tests.fuzz.child import judged, written
from tests.fuzz.seeds import make_seeds
from tests.fuzz.targets import TARGETS
from tests.fuzz.watch import Verdict, Watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--handmade", action="store_true")
    parser.add_argument("--case")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seeds = Path(scratch) / "seeds"
        make_seeds(seeds)
        if asked.case:
            print(*judged(written(seeds, asked.case, asked.keep or Path(scratch) / "case")), sep="\n")
            return
        targets = asked.target or list(TARGETS)
        numbered = range(asked.first, asked.first + asked.cases // len(targets))
        cases = [f"{target}/{number}" for target in targets for number in numbered]
        if asked.handmade:
            cases = [name for name in HANDMADE if name.partition("/")[0] in targets]
        watch = Watch(seeds, Path(scratch), asked.children)
        try:
            _report(watch, cases)
        finally:
            watch.close()


def _report(watch: Watch, cases: list[str]) -> None:
    tallies: dict[str, Counter[str]] = {}
    slowest: list[Verdict] = []
    began = time.monotonic()
    for done, verdict in enumerate(watch.judge(cases), start=1):
        target = verdict.case.partition("/")[0]
        tally = tallies.setdefault(target, Counter())
        tally.update(verdict.tally)
        tally["cases"] += 1
        tally["faults"] += verdict.fault is not None
        slowest = sorted([*slowest, verdict], key=lambda one: one.seconds)[-12:]
        if verdict.fault:
            print(f"FAULT {verdict.case}: {verdict.fault.strip()}\n", flush=True)
        if done % 5000 == 0:
            print(f"{done} of {len(cases)} cases, {time.monotonic() - began:.0f} s", flush=True)
    print(*(f"{target}: {dict(tally)}" for target, tally in tallies.items()), sep="\n")
    print("slowest:", *(f"{one.case} {one.seconds:.1f} s, {one.peak >> 20} MiB" for one in slowest), sep="\n")


if __name__ == "__main__":
    main()
