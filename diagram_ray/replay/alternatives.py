"""Costs and results of other ladders and races in a study that has been run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from diagram_ray.config import build
from diagram_ray.errors import UsageError
from diagram_ray.replay.recording import recording_of
from diagram_ray.replay.replay import Summary, random_orders, summarise
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.racing import RULES, Race, RaceConfig, make_race
from diagram_ray.storage.paths import Place
from diagram_ray.study.config import LadderConfig
from diagram_ray.study.study_folder import DOCUMENT, read_plan
from diagram_ray.yaml_text import parse_assignment, read_yaml

WITHIN = 0.005
"""AUC within which a configuration is as good as the best."""


@dataclass(frozen=True)
class Alternative:
    """A way to search, with the summary of its replays."""

    name: str
    summary: Summary

    def row(self) -> dict[str, Any]:
        """The alternative as plain values."""
        return {"way": self.name} | asdict(self.summary)


def alternatives(folder: Place, assignments: Sequence[str], replays: int) -> Iterator[Alternative]:
    """Replays the study in `folder`: all in full, its ladder as `assignments` change it, and that with each race.

    Its complete trials come in random orders. Raises UsageError for a key that is not of the ladder or the race and for
    a ladder that was not recorded, DataError for a folder without what is needed.
    """
    plan, raw = read_plan(folder), read_yaml(folder / DOCUMENT)["study"]
    ladder_config, race_config = changed(raw, assignments)
    ladder = ladder_config.make(plan.study.folds, plan.base.training.epochs)
    race = make_race(race_config) or Race("bbcd", race_config.alpha)
    recording = recording_of(folder)
    orders = random_orders(recording.configurations, replays)
    whole = Ladder((recording.top,), ladder.reduction)
    ways: list[tuple[str, Ladder, Race | None]] = [("all in full", whole, None)]
    ways.append((f"ladder {_shown(ladder)}", ladder, None))
    ways += [(f"ladder and {rule} {race.alpha:g}", ladder, replace(race, rule=rule)) for rule in RULES]
    for name, tried_ladder, tried_race in ways:
        yield Alternative(name, summarise(recording, tried_ladder, tried_race, orders, WITHIN))


def changed(raw: Mapping[str, Any], assignments: Sequence[str]) -> tuple[LadderConfig, RaceConfig]:
    """The ladder and the race of a study, as it stands in its document, with the changes of --set.

    Raises UsageError for any other key, ConfigError for a value that cannot be.
    """
    sections = {name: dict(raw.get(name) or {}) for name in ("ladder", "race")}
    for text in assignments:
        key, value = parse_assignment(text)
        section, _, name = key.partition(".")
        if section not in sections:
            raise UsageError(f"--set {key}: a replay can change ladder.rungs, ladder.reduction and race.* only")
        sections[section][name] = value
    return build(LadderConfig, sections["ladder"], "--set ladder"), build(RaceConfig, sections["race"], "--set race")


def _shown(ladder: Ladder) -> str:
    return " ".join(f"{rung.folds}x{rung.epochs}" for rung in ladder.rungs) + f", 1/{ladder.reduction}"
