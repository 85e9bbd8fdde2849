"""Whether a network has learnt the images that it is trained on, from its AUC on them.

A network that can learn and is trained for long enough separates its own training images nearly without error, whatever
they teach about others. Below `NOT_FITTED` it has learnt little even of these. Between that and `FITTED` it depends:
augmentation, dropout and weight decay keep a network from learning its images by heart, and a lower figure is then as
it should be. Such a network reads clearly more on training than on test images. Where both figures are low and near to
each other, training ended before there was anything to hold back. The three limits are guesses.
"""

NOT_FITTED = 0.70
FITTED = 0.80
NEAR = 0.10
"""Training and test AUC that differ by less than this are near to each other."""

ADVICE = "try more epochs, higher learning rates or a wider network, or less augmentation, dropout and weight decay"


def underfits(training_auc: float | None, test_auc: float | None, epochs: int) -> str:
    """A warning if a network does not fit the images that it was trained on for `epochs` epochs; empty if it does.

    The AUCs are means over the folds after the last epoch. `training_auc` is None where it was not measured, which says
    nothing; `test_auc` is None where there are no test images, and then only the lower limit counts.
    """
    if training_auc is None or _fits(training_auc, test_auc):
        return ""
    beside = "" if test_auc is None else f", test AUC {test_auc:.2f}"
    plural = "epoch" if epochs == 1 else "epochs"
    return f"underfits: training AUC {training_auc:.2f} after {epochs} {plural}{beside}; {ADVICE}"


def reason(training_auc: float | None, test_auc: float, shown: bool) -> str:
    """What the fit to the training images adds to a verdict on the test images; empty where it adds nothing.

    `shown` says whether the verdict finds more than guessing and trivial features in the images.
    """
    if training_auc is None:
        return ""
    if not _fits(training_auc, test_auc):
        return (
            f"But the networks do not fit even their own training images (AUC {training_auc:.2f} there), so the "
            "training may be what falls short, not the images."
        )
    if not shown and training_auc >= FITTED and training_auc - test_auc >= NEAR:
        return (
            f"The networks do fit their own training images (AUC {training_auc:.2f} there), but what they have learnt "
            "of them does not carry over to other patients."
        )
    return ""


def _fits(training_auc: float, test_auc: float | None) -> bool:
    near = test_auc is not None and training_auc - test_auc < NEAR
    return training_auc >= (FITTED if near else NOT_FITTED)
