"""The trivial baselines of a study that has been searched: seconds of work, in the driver's own process.

They depend on the data and the folds alone.
"""

from diagram_ray.auditing.baselines import Baselines, identity, measure, question
from diagram_ray.distributed.after_search.comparison_files import ComparisonFiles
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
    inputs = searched.inputs
    asked = question(inputs.data, inputs.splits, inputs.manifest, searched.base.data)
    return measure(asked, cluster.stopping)


def _files(searched: EndedStudy) -> ComparisonFiles:
    folder, inputs = searched.folder, searched.inputs
    depends = identity(inputs.data, inputs.splits)
    return ComparisonFiles("trivial baselines", folder / BASELINES, folder / BASELINE_SCORES, depends)
