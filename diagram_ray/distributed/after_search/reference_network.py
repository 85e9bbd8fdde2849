"""A reference network beside a study that has been searched: frozen ImageNet features on the study's own folds.

No trivial baseline: it sees shape and texture, but has learnt them from photographs alone. One task on the cluster,
where the extra `pretrained` is installed. It depends on the data, the folds and the weights.
"""

import hashlib

import numpy as np
import pandas as pd
import ray
from numpy.typing import NDArray

from diagram_ray.auditing import baselines
from diagram_ray.auditing.baselines import Baselines
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.after_search.comparison_files import ComparisonFiles
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster, wait_for_one
from diagram_ray.distributed.retries import RETRIES
from diagram_ray.distributed.session import result_of
from diagram_ray.errors import one_line
from diagram_ray.results import REFERENCE, REFERENCE_SCORES
from diagram_ray.training.pretrained.weights_file import NETWORKS, is_installed, weights_file

NETWORK = NETWORKS[0]
VERSION = 1
"""Version of the features and the learner in training/pretrained/frozen_features.py: another one measures anew."""
NAME = "frozen ImageNet features"
NOTE = (
    "A logistic regression on the last maps of EfficientNet-Lite0, which was trained on photographs and is not trained "
    "further."
)


def lacks_reference(study: EndedStudy) -> bool:
    """Whether the reference can be measured here and was not yet, with these data, folds and weights."""
    return is_installed(NETWORK) and not _files(study).is_there()


def run_reference(study: EndedStudy, cluster: Cluster) -> None:
    """Writes reference.parquet, and last reference.json; nothing if it was stopped meanwhile."""
    _files(study).measure(lambda: _measured(study, cluster))


def _measured(study: EndedStudy, cluster: Cluster) -> Baselines | None:
    data, splits, share = study.inputs.data, study.inputs.splits, cluster.share
    remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=RETRIES)(_scores)
    done = wait_for_one([remote.remote(data, splits, share.device)], cluster)
    return None if done is None else _summarised(data, splits, result_of(done))


def _scores(data: TrainingData, splits: Splits, device: str) -> NDArray[np.float64]:
    import torch

    from diagram_ray.training.pretrained.frozen_features import frozen_feature_scores

    torch.set_num_threads(1)
    return frozen_feature_scores(data, splits, NETWORK, device=device)


def _summarised(data: TrainingData, splits: Splits, scores: NDArray[np.float64]) -> Baselines:
    folds = np.array([splits.patients[patient] for patient in data.patient_ids.tolist()], dtype=np.int32)
    ids = {"fold": folds, "image_id": data.image_ids, "patient_id": data.patient_ids}
    table = pd.DataFrame({"group": NAME, **ids, "label": data.labels, "score": scores})
    return Baselines(table, [baselines.summary(NAME, "network", NOTE, table)], [])


def _files(study: EndedStudy) -> ComparisonFiles:
    folder, inputs = study.folder, study.inputs
    depends = f"{VERSION} {_weights()} {baselines.identity(inputs.data, inputs.splits)}"
    identity = hashlib.sha256(depends.encode()).hexdigest()
    return ComparisonFiles(NAME, folder / REFERENCE, folder / REFERENCE_SCORES, identity)


def _weights() -> str:
    """The SHA-256 of the weights. Of a damaged package it is what is wrong, which the task finds too and reports."""
    try:
        return weights_file(NETWORK, True).digest
    except Exception as error:  # no record of its version, a file that cannot be read
        return one_line(error)
