"""The origin of a study's code: its git commit."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import diagram_ray

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable in which Ray gives a job's driver the metadata of `ray job submit --metadata-json`."""
COMMIT = re.compile(r"[0-9a-f]{7,64}(-dirty)?")


def commit() -> str | None:
    """The git commit of this code: what the job's metadata name, or else that of the work tree it runs from.

    `-dirty` behind it says that files differ from the commit. None where neither is known, as in an installed package.
    """
    return _of_the_job() or _of_the_work_tree(Path(diagram_ray.__file__).parents[1])


def _of_the_job() -> str | None:
    """The commit in the job's metadata, which somebody typed: what does not look like a commit is none."""
    try:
        text = json.loads(os.environ[JOB])["metadata"]["commit"]
    except (KeyError, TypeError, ValueError):
        return None
    return text if isinstance(text, str) and COMMIT.fullmatch(text) else None


def _of_the_work_tree(root: Path) -> str | None:
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():  # not a package that was installed somewhere in another tree
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        description = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return description if COMMIT.fullmatch(description) else None
