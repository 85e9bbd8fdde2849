"""A study's folder read and measured: all figures of the report, none of its words."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.errors import DataError, DiagramError, LeakageError
from diagram_ray.evaluation.estimates.by_unit import UnitEstimate, unit_estimates
from diagram_ray.evaluation.estimates.nested_estimate import NestedEstimate, nested_estimate
from diagram_ray.evaluation.estimates.repeated_estimate import RepeatedEstimate, repeated_estimate
from diagram_ray.evaluation.estimates.winner import ControlCheck, Estimates, check_control, estimate
from diagram_ray.evaluation.metrics import MeanRoc, Roc, mean_roc, roc
from diagram_ray.evaluation.operating_points import Operating, operating
from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.predictions import check_predictions
from diagram_ray.evaluation.verdict import Grade, grade
from diagram_ray.reporting import recorded_values as recorded
from diagram_ray.reporting.recorded_values import checked, mapping
from diagram_ray.results import BASELINE_SCORES, BASELINES, REFERENCE, REFERENCE_SCORES, Study, TrialState
from diagram_ray.search.importance import Importance, importances
from diagram_ray.search.ladder import Ladder, Rung, make_rungs
from diagram_ray.search.space import parse_space


class StudyData:
    """A study, measured. Tables are read and estimates made when they are first asked for.

    Raises DataError if a file is missing or contradicts another, LeakageError if a patient was tested in a fold that
    is not the patient's.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.document = study.document
        for section in ("study", "experiment", "dataset"):
            if not isinstance(self.document.get(section), dict):
                raise DataError(f"{study.path / 'study.yaml'}: {section} is missing or not a mapping")
        self.config: dict[str, Any] = self.document["study"]
        self.dataset: dict[str, Any] = self.document["dataset"]
        self.name = str(self.config.get("name", study.path.name))
        self.trials = checked(study.trials, recorded.TRIAL_COLUMNS, study.path / "trials.parquet")

    @cached_property
    def classes(self) -> tuple[str, str]:
        """The names of the negative and the positive class."""
        classes = self.document.get("classes")
        if not isinstance(classes, list) or len(classes) != 2:
            raise DataError(f"{self.study.path / 'study.yaml'}: classes: {classes!r}; expected [negative, positive]")
        return str(classes[0]), str(classes[1])

    @cached_property
    def best(self) -> "pd.Series[Any] | None":
        """The best complete trial."""
        return self.study.best if (self.trials["state"] == TrialState.COMPLETE).any() else None

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The predictions of all complete trials on the study's own folds, each in the fold of its patient."""
        every = checked(self.study.predictions, recorded.PREDICTION_COLUMNS, self.study.path / "predictions.parquet")
        table = every[every["repeat"] == 0]
        assigned = self.study.splits.get("patients", {})
        wrong = table[table["patient_id"].map(assigned) != table["fold"]]
        if len(wrong):
            row = wrong.iloc[0]
            raise LeakageError(
                f"{self.study.path}: patient {row['patient_id']} was tested in fold {row['fold']}, but splits.json "
                f"has the patient in fold {assigned.get(row['patient_id'])}"
            )
        return table

    @cached_property
    def of_best(self) -> pd.DataFrame:
        """The best trial's predictions."""
        return self.predictions[self.predictions["trial"] == self.number]

    @cached_property
    def repeats_of_best(self) -> pd.DataFrame:
        """The best trial's predictions on all assignments of folds that it was cross-validated on, each checked."""
        every = self.study.predictions
        rows, first = every[every["trial"] == self.number], self.of_best
        for _, table in rows.groupby("repeat"):
            check_predictions(table.drop(columns="repeat"), first["image_id"], first["patient_id"])
        return rows

    @property
    def number(self) -> int | None:
        """The number of the best trial; None if no trial is complete."""
        return None if self.best is None else int(self.best["number"])

    @cached_property
    def estimates(self) -> Estimates | None:
        """Estimates of the best trial's AUC; None if no trial is complete."""
        if self.number is None:
            return None
        baselines, reference = self.baseline_scores, self.reference_scores
        return estimate(self.predictions, self.number, baselines=baselines, reference=reference)

    @cached_property
    def baseline_scores(self) -> pd.DataFrame | None:
        """Scores from trivial features; None if they were not measured."""
        if self.unmeasured:
            return None
        return checked(self.study.baseline_predictions, recorded.BASELINE_COLUMNS, self.study.path / BASELINE_SCORES)

    @cached_property
    def unmeasured(self) -> str:
        """Reason why nothing is known of trivial baselines; empty if something is."""
        if self.number is None:
            return "no trial is complete"
        baselines = self.study.baselines
        if baselines is None:
            return f"tune --resume {self.study.path} does it, in seconds and without training"
        return str(baselines.get("unmeasured", f"{BASELINES} does not say why"))

    @cached_property
    def reference_scores(self) -> pd.DataFrame | None:
        """Scores of the reference network; None if it was not measured."""
        if self.unreferenced:
            return None
        return checked(self.study.reference_predictions, recorded.BASELINE_COLUMNS, self.study.path / REFERENCE_SCORES)

    @cached_property
    def unreferenced(self) -> str:
        """Reason why nothing is known of the reference network; empty if something is."""
        if self.number is None:
            return "no trial is complete"
        resume = f"tune --resume {self.study.path}"
        if self.study.reference is None:
            return f"after pip install 'diagram_ray[pretrained]', {resume} does it, without training a network"
        why = str(self.study.reference.get("unmeasured", f"{REFERENCE} does not say why"))
        return f"{why}; remove {REFERENCE}, and {resume} tries again" if why else ""

    @cached_property
    def repeated(self) -> RepeatedEstimate | None:
        """The estimate over all repeats; None if the best trial was cross-validated once."""
        if self.number is None or self.repeats_of_best["repeat"].nunique() < 2:
            return None
        return repeated_estimate(self.repeats_of_best)

    @cached_property
    def nested(self) -> NestedEstimate | None:
        """The estimate by nested cross-validation; None if there was none, or it failed."""
        if self.study.nested is None or "failed" in self.study.nested:
            return None
        path = self.study.path / "nested" / "predictions.parquet"
        columns = [name for name in recorded.PREDICTION_COLUMNS if name != "repeat"]
        return nested_estimate(checked(self.study.nested_predictions, columns, path))

    @cached_property
    def units(self) -> list[UnitEstimate]:
        """The best trial's AUC by image, breast (if the images' sides are recorded) and patient."""
        if self.study.images is None:
            return unit_estimates(self.of_best, None)
        table = checked(self.study.images, ["image_id", "laterality"], self.study.path / "images.parquet").dropna()
        return unit_estimates(self.of_best, dict(zip(table["image_id"], table["laterality"], strict=True)))

    @cached_property
    def operating(self) -> Operating | None:
        """The worth of decisions by the best trial's scores; None if no trial is complete."""
        return None if self.number is None else operating(out_of_fold(self.of_best))

    @cached_property
    def control(self) -> ControlCheck | None:
        """The check of the no-signal control; None if the study has none, or no complete trial to measure chance by."""
        if self.study.control is None or self.estimates is None:
            return None
        try:
            if self.study.control["auc_mean"] is None:  # no shuffle could be trained
                return None
            return check_control(self.study.control, self.estimates.chance_sd)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.study.path / 'control.json'}: cannot be read: {error!r}") from None

    @property
    def control_is_of_best(self) -> bool:
        """Whether the control was run with the configuration that is the best now."""
        return self.study.control is None or self.study.control.get("trial", self.number) == self.number

    @property
    def grade(self) -> Grade:
        """The grade of the evidence; NONE if no trial is complete."""
        if self.estimates is None:
            return Grade.NONE
        return grade(self.estimates.corrected.auc, self.control, self.estimates.margin)

    @property
    def states(self) -> str:
        """The number of trials in each state, for example "2 complete, 13 pruned, 1 failed"."""
        words = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
            TrialState.RUNNING: "not ended",
        }
        counts = self.trials["state"].value_counts()
        return ", ".join(f"{counts[state]} {word}" for state, word in words.items() if state in counts) or "no trials"

    @cached_property
    def ladder(self) -> Ladder:
        """The ladder of the study. Raises DataError if study.yaml has none that can be read."""
        try:
            section, epochs = self.config["ladder"], int(self.document["experiment"]["training"]["epochs"])
            reduction, rungs = int(section["reduction"]), section["rungs"]
            default = make_rungs(int(self.config["folds"]), epochs)
            return Ladder(tuple(Rung(*map(int, pair)) for pair in rungs) if rungs else default, reduction)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.study.path / 'study.yaml'}: the ladder cannot be read: {error!r}") from None

    @property
    def curves(self) -> pd.DataFrame:
        """The curves of all trials; empty if no trial finished an epoch."""
        if not (self.study.path / "curves.parquet").is_file():
            return pd.DataFrame(columns=recorded.CURVE_COLUMNS)
        return checked(self.study.curves, recorded.CURVE_COLUMNS, self.study.path / "curves.parquet")

    @property
    def curves_of_best(self) -> pd.DataFrame:
        """The curves of all folds of the best trial."""
        return self.curves[self.curves["trial"] == self.number]

    @cached_property
    def importance(self) -> Importance:
        """The importance of the searched settings."""
        try:
            space = parse_space(self.config.get("space"), "study.yaml")
            return importances(self.trials, self.curves, space, self.ladder.rungs)
        except (DiagramError, ValueError) as error:
            return Importance({}, f"cannot be computed: {error}")

    @cached_property
    def rocs(self) -> "Rocs":
        """The ROC curves of the best trial."""
        groups = self.of_best.groupby(["repeat", "fold"])
        folds = [roc(part["label"].to_numpy(), part["score"].to_numpy()) for _, part in groups]
        return Rocs(folds, mean_roc(folds))

    @cached_property
    def fold_counts(self) -> list[dict[str, Any]]:
        """Patients, images and images of each class in every fold and in all; patients alone if nothing is complete."""
        assigned = pd.Series(self.study.splits.get("patients", {}), dtype=int)
        rows = [{"fold": str(fold), "patients": int(n)} for fold, n in assigned.value_counts().sort_index().items()]
        rows.append({"fold": "all", "patients": len(assigned)})
        if self.best is None:
            return rows
        images = self.of_best
        for row in rows:
            labels = images["label"][(images["fold"].astype(str) == row["fold"]) | (row["fold"] == "all")]
            row |= {"images": len(labels), "negative": int((labels == 0).sum()), "positive": int((labels == 1).sum())}
        return rows

    @property
    def parameters(self) -> list[str]:
        """Dotted names of the searched settings."""
        return [name.removeprefix("params.") for name in self.trials.columns if name.startswith("params.")]

    def is_log(self, parameter: str) -> bool:
        """Whether the space has a searched setting in its logarithm."""
        space = self.config.get("space")
        values = space.get(parameter) if isinstance(space, dict) else None
        return isinstance(values, dict) and values.get("log") is True

    def warnings(self) -> list[str]:
        """Contradictions that do not make the report impossible."""
        sentences = []
        if self.best is not None and self.estimates is not None:
            computed, stored = self.estimates.fold_mean.value, float(self.best["auc_mean"])
            if not np.isclose(computed, stored, atol=1e-6):
                sentences.append(
                    f"trials.parquet says AUC {stored:.4f} for the best trial; its predictions give {computed:.4f}."
                )
        if not self.control_is_of_best:
            sentences.append("The no-signal control was run for another trial than the one that is the best now.")
        if self.document.get("interrupted"):
            sentences.append(f"The study was ended early ({self.document['interrupted']}); it can be resumed.")
        for step, reason in mapping(self.document.get("failed_steps")).items():
            sentences.append(f"After the search, one step failed ({step}): {reason}")
        return sentences


@dataclass(frozen=True)
class Rocs:
    """ROC curves of the folds, and their mean."""

    folds: list[Roc]
    mean: MeanRoc
