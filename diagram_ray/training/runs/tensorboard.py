"""Curves for TensorBoard."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place

NAMES = {"loss": "loss", "training": "training", "validation": "validation", "rate": "learning_rate", "gan": "gan"}
"""First word of a column of the curves -> group of scalars."""


class Board:
    """Event files in a folder: a scalar for each figure of an epoch, for example loss/image.

    What an earlier run wrote for `first` and later epochs is struck out.
    """

    def __init__(self, folder: Place, first: int = 1) -> None:
        self._folder = folder
        # An event file grows: for an object store it is written here, and put there anew after every epoch.
        self._here = None if isinstance(folder, Path) else tempfile.TemporaryDirectory(prefix="diagram-ray-")
        # Files are named by the second they were begun in: the suffix tells those of one second apart.
        place = str(folder) if self._here is None else self._here.name
        self._writer = SummaryWriter(place, purge_step=first, filename_suffix=f".{first:06d}")

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()
        if self._here is not None:
            self._here.cleanup()

    def add(self, row: Mapping[str, Any]) -> None:
        """A curve row; what is not a figure in it is left out."""
        for key, value in row.items():
            word, _, rest = key.partition("_")
            if word in NAMES and value is not None:
                self._writer.add_scalar(f"{NAMES[word]}/{rest}", value, row["epoch"])
        self._writer.flush()
        if self._here is not None:
            for path in Path(self._here.name).iterdir():
                write_atomic(self._folder / path.name, path.read_bytes())
