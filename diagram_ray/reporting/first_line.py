"""The report's first line, which `tune` prints too."""

from diagram_ray.evaluation.underfitting import reason
from diagram_ray.evaluation.verdict import Grade, verdict
from diagram_ray.reporting import training_fit
from diagram_ray.reporting.study_data import StudyData


def verdict_of(study_data: StudyData) -> str:
    """The verdict: what the images teach the model, what it fits of its training images, and what was not measured."""
    if study_data.best is None or study_data.estimates is None:
        return f"No trial is complete ({study_data.states}), so there is nothing to say about the images yet."
    sentences = [verdict(study_data.estimates.corrected.auc, study_data.control, study_data.estimates.margin)]
    if study_data.grade is not Grade.LEAK:
        shown = study_data.grade not in (Grade.NONE, Grade.TRIVIAL)
        sentences.append(reason(training_fit.training_auc(study_data), float(study_data.best["auc_mean"]), shown))
    if study_data.unmeasured:
        sentences.append(f"What trivial baselines reach on these folds was not measured: {study_data.unmeasured}.")
    return " ".join(sentence for sentence in sentences if sentence)
