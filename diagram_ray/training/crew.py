"""Who trains which folds when several processes train one cross-validation: teams, each with folds of its own.

A team trains its folds one after the other, all its processes together. The teams work side by side and wait for each
other after every epoch.
"""

from dataclasses import dataclass

import torch.distributed as dist

from diagram_ray.training.context import ALONE, Context, Group


def plan_teams(workers: int, at_once: int) -> tuple[range, ...]:
    """The ranks of each team: `at_once` teams, or fewer if there are fewer workers.

    Ranks of a team are neighbours, because neighbours share a machine; teams have equally many, give or take one.
    """
    teams = max(1, min(workers, at_once))
    return tuple(range(workers * team // teams, workers * (team + 1) // teams) for team in range(teams))


@dataclass(frozen=True)
class Crew:
    """All processes of a cross-validation, and this process's place among them."""

    world: Context = ALONE
    """All processes."""
    team: Context = ALONE
    """Those of this process's team."""
    number: int = 0
    """Of the team."""
    teams: int = 1

    def has(self, fold: int) -> bool:
        """Whether this process's team trains `fold`: the teams take turns."""
        return fold % self.teams == self.number

    @property
    def speaks(self) -> bool:
        """Whether this process tells the others what its team found."""
        return self.team.rank == 0


SOLO = Crew()


def join_crew(at_once: int) -> Crew:
    """This process's place among all those of torch.distributed, each of which must call it."""
    world = Group()
    teams = plan_teams(world.world_size, at_once)
    groups = [dist.new_group(list(ranks)) for ranks in teams]  # each process has to make all of them
    number = next(place for place, ranks in enumerate(teams) if world.rank in ranks)
    return Crew(world, Group(groups[number]), number, len(teams))
