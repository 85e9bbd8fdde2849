"""Files of comparisons beside a study's trials: scores on its folds, and figures or why there are none.

What they depend on is written with them, so a study that goes on keeps those that it has. Whatever goes wrong is
written into the file of figures and costs the study nothing else.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from diagram_ray.auditing.baselines import Baselines
from diagram_ray.errors import DiagramError, one_line
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.storage.paths import Place

log = logging.getLogger("diagram_ray")


@dataclass(frozen=True)
class ComparisonFiles:
    """The two files of a comparison in a study's folder."""

    what: str
    """Name of the comparison in messages."""
    figures: Place
    scores: Place
    identity: str
    """Digest of all that the scores depend on."""

    def is_there(self) -> bool:
        """Whether they are there for the same identity, or the reason why there are none is."""
        try:
            document = json.loads(self.figures.read_text(encoding="utf-8")) if self.figures.is_file() else {}
            complete = document["unmeasured"] or self.scores.is_file()
            return bool(complete) and bool(document["identity"] == self.identity)
        except (ValueError, KeyError, TypeError):  # there are none, or they are damaged
            return False

    def measure(self, work: Callable[[], Baselines | None]) -> None:
        """Writes the result of `work`, or why it fails; nothing where the result is None, because it was stopped."""
        began = time.monotonic()
        try:
            result: Baselines | str | None = work()
        except DiagramError as error:
            result = str(error)
        except (
            Exception
        ) as error:  # of PyTorch's, the learner's and Ray's many kinds; the study is worth more than this
            result = one_line(error)
        if result is not None:
            self._write(result, began)

    def _write(self, result: Baselines | str, began: float) -> None:
        """Writes the scores, and last the figures; `result` as text is why there are none. `began`: monotonic time."""
        figures: dict[str, Any] = {"identity": self.identity, "groups": [], "absent": [], "unmeasured": ""}
        if isinstance(result, Baselines):
            write_table(self.scores, pa.Table.from_pandas(result.scores, preserve_index=False))
            figures |= {"groups": result.groups, "absent": result.absent}
        else:
            log.warning("%s could not be measured: %s", self.what, result)
            figures |= {"unmeasured": result}
        figures["seconds"] = round(time.monotonic() - began, 3)
        write_atomic(self.figures, json.dumps(figures, indent=1))
