"""Where the repository is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Its folder: on PYTHONPATH, all processes import `tests.support` from it."""
