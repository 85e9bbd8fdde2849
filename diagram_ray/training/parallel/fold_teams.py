"""Who trains which folds when several processes train one cross-validation: teams, each with folds of its own.

A team trains its folds one after the other, all its processes together; a team of one process may train several of its
folds side by side (`fold_packing.py`). The teams work side by side and wait for each other after every epoch.
"""

from dataclasses import dataclass

import torch.distributed as dist

from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, DistributedGroup, ProcessGroup


def plan_teams(workers: int, at_once: int) -> tuple[range, ...]:
    """The ranks of each team: `at_once` teams, or fewer if there are fewer workers.

    Ranks of a team are neighbours, because neighbours share a machine; teams have equally many, give or take one.
    """
    teams = max(1, min(workers, at_once))
    return tuple(range(workers * team // teams, workers * (team + 1) // teams) for team in range(teams))


@dataclass(frozen=True)
class FoldTeams:
    """All processes of a cross-validation, and this process's place among them."""

    world: ProcessGroup = SINGLE_PROCESS
    """All processes."""
    team: ProcessGroup = SINGLE_PROCESS
    """The processes of this process's team."""
    number: int = 0
    """The number of this process's team, from 0."""
    count: int = 1
    """The number of teams."""
    at_once: int | None = 1
    """Folds that this process trains side by side, 1 in a team of several; None: as many as prove useful."""
    part: float = 1.0
    """The part of its device's memory that this process may take."""

    def has(self, fold: int) -> bool:
        """Whether this process's team trains `fold`: the teams take turns."""
        return fold % self.count == self.number

    def place(self, fold: int) -> int:
        """The number, from 0, of one of this team's folds among them."""
        return fold // self.count

    def folds(self, count: int) -> int:
        """How many of `count` folds are this team's."""
        return len(range(self.number, count, self.count))

    @property
    def is_team_leader(self) -> bool:
        """Whether this process tells the others what its team's folds gave."""
        return self.team.rank == 0


def join_teams(at_once: int, planned: bool = False) -> FoldTeams:
    """This process's place among all those of torch.distributed, each of which must call it.

    All together they train `at_once` folds side by side. Where these are more than the processes, each process trains
    an equal part of them at a time, rounded up, or if `planned` as many of its own as prove useful.
    """
    world = DistributedGroup()
    teams = plan_teams(world.world_size, at_once)
    groups = [dist.new_group(list(ranks)) for ranks in teams]  # each process has to make all of them
    number = next(place for place, ranks in enumerate(teams) if world.rank in ranks)
    if len(teams[number]) > 1:  # folds side by side would mix up what its processes tell each other
        return FoldTeams(world, DistributedGroup(groups[number]), number, len(teams))
    side_by_side = None if planned else -(-at_once // len(teams))
    return FoldTeams(world, SINGLE_PROCESS, number, len(teams), side_by_side)
