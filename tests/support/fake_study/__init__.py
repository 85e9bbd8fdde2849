"""A study whose training takes no time: an epoch that was lost, or trained twice, shows in its tables."""

import sys
from pathlib import Path

STUDY = Path(__file__).with_name("study.yaml")
DRIVER = [sys.executable, "-m", "tests.support.fake_study.drive"]
"""The command of a process that drives it; the repository's folder must be on its PYTHONPATH."""
