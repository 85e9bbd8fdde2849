"""All commands under one name: `diagram-ray VERB ...` or `python -m diagram_ray VERB ...`.

Both do what `python -m diagram_ray.VERB ...` does, with the same options and exit codes.
"""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = {
    "prepare": ("diagram_ray.prepare", "makes a dataset of image files"),
    "audit": ("diagram_ray.audit", "looks for what would make a figure measured on a dataset false"),
    "tune": ("diagram_ray.tune.command", "searches for the best configuration by cross-validation"),
    "train": ("diagram_ray.train", "trains one model on a dataset"),
    "report": ("diagram_ray.report", "writes a page about one or several studies"),
    "predict": ("diagram_ray.predict", "gives the class probabilities of mammograms"),
    "reproduce": ("diagram_ray.reproduce", "trains one fold of one trial again and compares"),
    "evaluate": ("diagram_ray.evaluate", "measures models on labelled images of patients they have not seen"),
    "doctor": ("diagram_ray.doctor.command", "finds and repairs what is wrong in a study's folder"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names; exits with 2 if there is none of that name."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if verb in ("--help", "-h"):
        sys.stdout.write("Usage: diagram-ray VERB [OPTIONS] ...\n\n")
        sys.stdout.writelines(f"  {name:<10} {purpose}\n" for name, (_, purpose) in VERBS.items())
        sys.stdout.write("\nThe options of a verb: diagram-ray VERB --help\n")
    elif verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
        found = f"unknown verb {verb!r}; " if verb else "a verb is missing; "
        hint = f"did you mean {near[0]!r}? " if near else ""
        sys.stderr.write(f"error: {found}{hint}allowed: {', '.join(VERBS)}\n")
        raise SystemExit(2)
    else:
        import_module(VERBS[verb][0]).app(rest, prog_name=f"diagram-ray {verb}")


if __name__ == "__main__":
    main()
