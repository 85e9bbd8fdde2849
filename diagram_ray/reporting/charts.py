"""The figures of one study, with their titles and texts for readers who cannot see them."""

from dataclasses import dataclass

from diagram_ray.evaluation.plots import curves
from diagram_ray.reporting import captions
from diagram_ray.reporting.study_data import StudyData

FIT = "AUC on training and on test images"
CURVES = {
    "auc": "AUC on the test fold",
    "loss_image": "image loss, Eq. 7",
    "loss_patch": "patch loss, Eq. 6",
    "loss_adversarial": "real/fake loss, Eq. 5",
    "loss_generator": "generator loss, Eq. 4",
    "gan_loss_ratio": "real/fake loss over generator loss",
    "gan_diversity": "diversity of generated patches (real ones: 1)",
}


@dataclass(frozen=True)
class Picture:
    """A figure of the report."""

    title: str
    image: str
    """Data URI of the image."""
    words: str
    """Text instead of the image, for readers who cannot see it."""


def of_roc(study_data: StudyData) -> Picture:
    """ROC curves of the best trial."""
    best = study_data.study.best
    auc = f"AUC {best['auc_mean']:.3f} ± {best['auc_sd']:.3f}"
    title = captions.of_roc(study_data)
    words = f"ROC curves of the {len(study_data.rocs.folds)} folds and their mean, {auc}. {title}"
    return Picture(title, curves.roc(study_data.rocs.folds, study_data.rocs.mean, auc), words)


def of_history(study_data: StudyData) -> Picture:
    """The chart of the trials in their order."""
    image = curves.history(study_data.trials, study_data.number, curves.auc_limits(study_data.trials))
    title = captions.of_history(study_data)
    return Picture(title, image, f"AUC of {len(study_data.trials)} trials in their order. {title}")


def of_parameters(study_data: StudyData) -> list[Picture]:
    """Charts of AUC against each searched parameter."""
    limits = curves.auc_limits(study_data.trials)
    known = [name for name in study_data.parameters if study_data.trials[f"params.{name}"].notna().any()]
    return [
        Picture(
            name,
            curves.scatter(study_data.trials, f"params.{name}", study_data.is_log(name), study_data.number, limits),
            f"AUC of each trial against {name}",
        )
        for name in known
    ]


def of_curves(study_data: StudyData) -> list[Picture]:
    """Charts of the best trial's curves, epoch by epoch."""
    table = study_data.curves_of_best
    shown = [name for name in CURVES if name in table and table[name].notna().any()]
    pictures = [(CURVES[name], curves.curves(table, name)) for name in shown]
    if "training_auc" in table and table["training_auc"].notna().any():
        pictures.insert(0, (FIT, curves.fit(table)))
    return [Picture(title, image, f"{title} of the best trial's folds against the epoch") for title, image in pictures]
