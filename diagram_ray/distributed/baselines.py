"""The trivial baselines of a study that has been searched: seconds of work, in the driver's own process.

They depend on the data and the folds alone.
"""

import time

from diagram_ray.auditing.baselines import Baselines, identity, measure, question
from diagram_ray.distributed.beside import Beside
from diagram_ray.distributed.control import Cluster
from diagram_ray.distributed.searched import Searched
from diagram_ray.errors import DataError, told
from diagram_ray.results import BASELINE_SCORES, BASELINES


def has_baselines(searched: Searched) -> bool:
    """Whether the folder has the baselines of these data and folds, or why there are none."""
    return _files(searched).is_there()


def run_baselines(searched: Searched, cluster: Cluster) -> None:
    """Writes baselines.parquet, and last baselines.json; nothing if it was stopped meanwhile."""
    began = time.monotonic()
    found = _measured(searched, cluster)
    if found is not None:
        _files(searched).write(found, began)


def _measured(searched: Searched, cluster: Cluster) -> Baselines | str | None:
    """Why there are none, where that is text."""
    materials = searched.materials
    try:
        asked = question(materials.data, materials.splits, materials.manifest, searched.base.data)
        return measure(asked, cluster.stopping)
    except DataError as error:
        return str(error)
    except Exception as error:  # of the learner's many kinds; the study is worth more than its baselines
        return told(error)


def _files(searched: Searched) -> Beside:
    folder, materials = searched.folder, searched.materials
    depends = identity(materials.data, materials.splits)
    return Beside("trivial baselines", folder / BASELINES, folder / BASELINE_SCORES, depends)
