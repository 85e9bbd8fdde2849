"""Sentences on repeated and nested cross-validation: what they found, how far that goes, or how to have them."""

import shlex

from diagram_ray.errors import DataError
from diagram_ray.reporting.formatting import interval_text, listed
from diagram_ray.reporting.study_data import StudyData

MANY = 8
"""Most figures that are listed one by one."""


def repeated(study_data: StudyData) -> str:
    """A text on what folds that were assigned anew made of the winner's figure."""
    estimate = study_data.repeated
    if estimate is None:
        return _none_repeated(study_data)
    folds, repeats = int(study_data.config["folds"]), len(estimate.means)
    others = estimate.means[1:]
    scores = listed([f"{value:.3f}" for value in others]) if len(others) <= MANY else _span(others)
    assignment = (
        ""
        if estimate.assignment_sd is None
        else f" The assignment alone moves the mean over folds by {estimate.assignment_sd:.3f} (sd)."
    )
    side = "above" if estimate.luck >= 0 else "below"
    luck = f"the assignment that chose it, {estimate.means[0]:.3f}, is {abs(estimate.luck):.3f} {side} their mean"
    return (
        f"On folds assigned anew the winner's configuration scores {scores}; {luck}.{assignment} "
        f"All {repeats * folds} folds of {repeats} repeats together give {estimate.auc.value:.3f} ± {estimate.sd:.3f} "
        f"(sd), 95% interval {interval_text(estimate.auc)} by patient. The search knew the first assignment only, and "
        "BBC-CV corrects that figure. The further repeats have none of that assignment's luck, but the configuration "
        f"was chosen on these same patients, so a little of its optimism stays in them.{_failures(study_data)}"
    )


def nested(study_data: StudyData) -> str:
    """A text on what the search as a whole finds, beside the naive figure and the corrected one."""
    recorded, estimate = study_data.study.nested, study_data.nested
    if recorded is None:
        return _none_nested(study_data)
    if estimate is None:
        return f"It came to nothing: {recorded.get('failed', 'no reason is recorded')}."
    try:
        count, spent = len(recorded["candidates"]), int(recorded["fold_epochs"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{study_data.study.path / 'nested.json'}: cannot be read: {error!r}") from None
    folds, trials, winners = len(estimate.winners), len(study_data.trials), listed(list(map(str, estimate.winners)))
    search_cost = int(study_data.trials["fold_epochs"].sum())
    times = f", {spent / search_cost:.1f} times what the search had cost" if search_cost else ""
    return (
        f"The search was made again without each of the {folds} folds, and what it found was measured on the fold left "
        f"out: AUC {estimate.auc.value:.3f}, 95% interval {interval_text(estimate.auc)}.{_beside(study_data)} "
        f"This is the figure of such a search, not of trial {study_data.number}: the winners were the trials "
        f"{winners}. {_who(count, trials)} In each outer fold the ladder was applied anew on the {folds - 1} others, "
        f"because the study's own pruning saw all folds. It trained {spent} fold-epochs{times}; models that leave two "
        "folds out served both."
    )


def _who(count: int, trials: int) -> str:
    if count == trials:
        return f"All {count} configurations took part: each was proposed without a look at any result."
    return (
        f"Only the {count} of {trials} configurations that were proposed without a look at any result took part, "
        "because the sampler proposed the others from scores of the very images that an outer fold holds out; what its "
        "guidance adds is not in this figure."
    )


def _beside(study_data: StudyData) -> str:
    estimates = study_data.estimates
    if estimates is None:
        return ""
    naive, corrected = estimates.fold_mean.value, estimates.corrected.auc.value
    return f" Beside it, the winner's own figure is {naive:.3f}, and {corrected:.3f} as BBC-CV corrects it."


def _none_repeated(study_data: StudyData) -> str:
    study, epochs = shlex.quote(str(study_data.study.path)), study_data.ladder.rungs[-1].fold_epochs
    return (
        f"Not made, so how much of the figure is due to how the folds were assigned is not known. "
        f"tune --resume {study} --repeats 5 would train the winner on four further assignments: {4 * epochs} "
        "fold-epochs."
        f"{_failures(study_data)}"
    )


def _none_nested(study_data: StudyData) -> str:
    study = shlex.quote(str(study_data.study.path))
    return (
        "Not made. It makes the search again without each fold, and so measures what a search finds without the luck "
        f"of having been selected; tune --resume {study} --nested --dry-run tells its price."
    )


def _failures(study_data: StudyData) -> str:
    """Repeats that could not be finished: leaving them out may flatter."""
    recorded = study_data.study.repeats
    if recorded is None or recorded.get("trial") != study_data.number:
        return ""
    try:
        failed = [f"repeat {entry['repeat']}, {entry['failed']}" for entry in recorded["repeats"] if "failed" in entry]
        count = len(recorded["repeats"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{study_data.study.path / 'repeats.json'}: cannot be read: {error!r}") from None
    if not failed:
        return ""
    return f" {len(failed)} of {count} further repeats failed and are left out, which may flatter: {'; '.join(failed)}."


def _span(values: tuple[float, ...]) -> str:
    return f"{min(values):.3f} to {max(values):.3f} in {len(values)} repeats"
