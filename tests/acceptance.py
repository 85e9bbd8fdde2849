"""Checks what `make run` promises, on the study folder that it left: `python tests/acceptance.py runs/quickstart-1`.

The newest of several folders is checked. Exits 1 with a list of the promises that were not kept.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from diagram_ray import Study

TRIALS, FOLDS, AUC, CONTROL = 10, 5, 0.80, 0.06
BASELINES = 0.05
"""Of the study's time that trivial baselines may take."""


def broken_promises(study: Study) -> Iterator[str]:
    """A sentence for each promise of the quickstart that this study does not keep."""
    ended = study.trials[study.trials["state"].isin(["COMPLETE", "PRUNED"])]
    if len(ended) < TRIALS or (ended["folds"] != FOLDS).any():
        yield f"{len(ended)} trials ended on folds {sorted(set(ended['folds']))}; promised: {TRIALS} or more on {FOLDS}"
    if study.best["auc_mean"] < AUC:
        yield f"the best AUC is {study.best['auc_mean']:.3f}; promised: {AUC} or more"
    if study.control is None or abs(study.control["auc_mean"] - 0.5) > CONTROL:
        yield f"the no-signal control is {study.control}; promised: 0.5 ± {CONTROL}"
    found, whole = study.baselines or {"unmeasured": "they are missing"}, study.document.get("seconds", 0.0)
    if found["unmeasured"]:
        yield f"trivial baselines were not measured: {found['unmeasured']}"
    elif found["seconds"] > BASELINES * whole:
        yield f"trivial baselines took {found['seconds']} s of {whole:.0f} s; promised: {BASELINES:.0%} or less"
    report = (study.path / "report.html").read_text(encoding="utf-8")
    if "<html" not in report or 'src="http' in report:
        yield "the report is not a self-contained page"
    for command in (["doctor"], ["reproduce", "--trial", str(study.best["number"]), "--fold", "2", "--device", "cpu"]):
        done = subprocess.run(
            [sys.executable, "-m", f"diagram_ray.{command[0]}", str(study.path), *command[1:]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            yield f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"


def main() -> None:
    """Checks the newest of the folders named on the command line."""
    newest = max((Path(name) for name in sys.argv[1:]), key=lambda path: path.stat().st_mtime)
    study = Study.load(newest)
    broken = list(broken_promises(study))
    control = study.control or {}
    print(
        f"{newest}: {len(study.trials)} trials, best AUC {study.best['auc_mean']:.3f} ± {study.best['auc_sd']:.3f}, "
        f"control {control.get('auc_mean', float('nan')):.3f}, {study.document.get('seconds', 0):.0f} s"
    )
    for sentence in broken:
        print(f"not kept: {sentence}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
