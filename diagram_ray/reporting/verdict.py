"""The report's first line, which `tune` prints too."""

from diagram_ray.evaluation.underfitting import reason
from diagram_ray.evaluation.verdict import Grade, verdict
from diagram_ray.reporting import training_fit
from diagram_ray.reporting.study_data import Facts


def verdict_of(facts: Facts) -> str:
    """What the images are shown to teach the model, what it fits of its training images, and what was not measured."""
    if facts.best is None or facts.estimates is None:
        return f"No trial is complete ({facts.states}), so there is nothing to say about the images yet."
    found = [verdict(facts.estimates.corrected.auc, facts.control, facts.estimates.margin)]
    if facts.grade is not Grade.LEAK:
        shown = facts.grade not in (Grade.NONE, Grade.TRIVIAL)
        found.append(reason(training_fit.training_auc(facts), float(facts.best["auc_mean"]), shown))
    if facts.unmeasured:
        found.append(f"What trivial baselines reach on these folds was not measured: {facts.unmeasured}.")
    return " ".join(sentence for sentence in found if sentence)
