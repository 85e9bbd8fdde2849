"""The trivial baselines of a study that has been searched: seconds of work, in the driver's own process.

They depend on the data and the folds alone.
"""

from diagram_ray.auditing.baselines import Baselines, identity, measure, question
from diagram_ray.distributed.after_search.comparison_files import Beside
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.results import BASELINE_SCORES, BASELINES


def has_baselines(searched: EndedStudy) -> bool:
    """Whether the folder has the baselines of these data and folds, or why there are none."""
    return _files(searched).is_there()


def run_baselines(searched: EndedStudy, cluster: Cluster) -> None:
    """Writes baselines.parquet, and last baselines.json; nothing if it was stopped meanwhile."""
    _files(searched).measure(lambda: _measured(searched, cluster))


def _measured(searched: EndedStudy, cluster: Cluster) -> Baselines | None:
    materials = searched.materials
    asked = question(materials.data, materials.splits, materials.manifest, searched.base.data)
    return measure(asked, cluster.stopping)


def _files(searched: EndedStudy) -> Beside:
    folder, materials = searched.folder, searched.materials
    depends = identity(materials.data, materials.splits)
    return Beside("trivial baselines", folder / BASELINES, folder / BASELINE_SCORES, depends)
