"""The trivial baselines of a study that has been searched: seconds of work, in the driver's own process.

They depend on the data and the folds alone.
"""

from diagram_ray.auditing.baselines import Baselines, identity, measure, question
from diagram_ray.distributed.after_search.comparison_files import ComparisonFiles
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.results import BASELINE_SCORES, BASELINES


def has_baselines(study: EndedStudy) -> bool:
    """Whether the folder has the baselines of these data and folds, or why there are none."""
    return _files(study).is_there()


def run_baselines(study: EndedStudy, cluster: Cluster) -> None:
    """Writes baselines.parquet, and last baselines.json; nothing if it was stopped meanwhile."""
    _files(study).measure(lambda: _measured(study, cluster))


def _measured(study: EndedStudy, cluster: Cluster) -> Baselines | None:
    inputs = study.inputs
    return measure(question(inputs.data, inputs.splits, inputs.manifest, study.base.data), cluster.stopping)


def _files(study: EndedStudy) -> ComparisonFiles:
    folder, inputs = study.folder, study.inputs
    depends = identity(inputs.data, inputs.splits)
    return ComparisonFiles("trivial baselines", folder / BASELINES, folder / BASELINE_SCORES, depends)
