"""Case scores of trials, from the files that they leave at each rung."""

from functools import lru_cache

from diagram_ray.search.ladder import Ladder
from diagram_ray.search.racing import Cases, FoldScore
from diagram_ray.storage.paths import Place
from diagram_ray.study.trial_files import TrialFiles, read_scores

REMEMBERED = 64
"""Case scores that are kept in memory: those of the incumbent are needed again and again."""


class CaseScoreReader:
    """A reader of case scores in a study's folder."""

    def __init__(self, folder: Place, ladder: Ladder, cases: Cases) -> None:
        self._folder, self._ladder, self._cases = folder, ladder, cases
        self._remembered = lru_cache(REMEMBERED)(self._read)

    def case_scores(self, number: int, rung: int) -> tuple[FoldScore, ...]:
        """The case scores of a trial at a rung that it has reached. Raises DataError if the file is damaged or
        missing."""
        return self._remembered(number, rung)

    def _read(self, number: int, rung: int) -> tuple[FoldScore, ...]:
        scores = read_scores(TrialFiles.of(self._folder, number).scores(rung))
        return tuple(self._cases.case_scores(self._ladder.rungs[rung].folds, scores))
