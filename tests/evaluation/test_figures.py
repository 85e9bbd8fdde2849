"""Figures are well-formed, self-contained pictures, and their axes show every trial."""

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from diagram_ray.evaluation.metrics import Roc, mean_roc
from diagram_ray.evaluation.plots import curves

TRIALS = pd.DataFrame(
    {
        "number": range(5),
        "state": ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "COMPLETE"],
        "auc_mean": [0.9, 0.6, np.nan, np.nan, 0.95],
        "rate": [1e-4, 1e-3, 1e-2, 1e-1, 3e-4],
        "norm": ["group", "a very long name of a choice", None, "$x$", "<b>"],
        "gan": [True, False, True, False, True],
        "same": [0.5] * 5,
    }
)
CURVES = pd.DataFrame({"fold": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "auc": [0.5, 0.7, 0.6, 0.8]}).assign(
    training_auc=0.9
)


def svg(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


def drawn():
    curve = Roc(np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.8, 1.0]))
    limits = curves.auc_limits(TRIALS)
    yield curves.roc([curve, curve], mean_roc([curve, curve]), "AUC 0.8")
    yield curves.history(TRIALS, 4, limits)
    yield curves.history(TRIALS.assign(state="FAIL", auc_mean=np.nan), None, limits)
    yield curves.curves(CURVES, "auc")
    yield curves.curves(CURVES[CURVES["epoch"] == 1], "auc")
    yield curves.fit(CURVES)
    yield curves.fit(CURVES[CURVES["epoch"] == 1].assign(training_auc=[np.nan, 0.9]))
    for name, log in (("rate", True), ("rate", False), ("norm", False), ("gan", False), ("same", True)):
        yield curves.scatter(TRIALS, name, log, 4, limits)


def test_every_picture_is_well_formed_and_asks_for_nothing():
    for uri in drawn():
        text = svg(uri)
        assert ET.fromstring(text).tag.endswith("svg")
        references = [part.split('"')[0] for part in text.split('href="')[1:]]
        assert all(reference.startswith("#") for reference in references)


def test_pictures_are_the_same_each_time():
    assert list(drawn()) == list(drawn())


@pytest.mark.parametrize("values", [[0.9, 0.95], [0.45, 0.6], [0.55, 0.9], [np.nan], [0.99, 0.99], [0.2]])
def test_every_trial_is_within_the_limits(values):
    low, high = curves.auc_limits(pd.DataFrame({"auc_mean": values}))
    known = [value for value in values if value == value]
    assert all(low < value < high for value in known)
    if min(known, default=0) < 0.7:
        assert low < 0.5
