"""One of the processes that train together in the tests.

    python -m tests.support.training.one_of_many RANK WORLD FOLDER WHAT

All of them run every case of WHAT; the first writes what came out to FOLDER/result.pt. Alone (WORLD 1) it is what the
others are compared with.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import make_splits
from diagram_ray.errors import DiagramError
from diagram_ray.training.algorithm1 import iterate
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.gradient_step import GradientStep
from diagram_ray.training.objectives import InnerBatch
from diagram_ray.training.parallel.fold_teams import FoldTeams, join_teams
from diagram_ray.training.parallel.leader import LeaderCrossValidation, run_follower
from diagram_ray.training.parallel.parallel_cross_validation import ParallelCrossValidation
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, DistributedGroup, ProcessGroup
from diagram_ray.training.trainer import Trainer
from tests.support.training import paper
from tests.support.training.tiny_data import SMALL, tiny_data

VARIANTS: dict[str, dict[str, Any]] = {
    "gan": {},
    "k3_uneven": {"training.k": 3, "training.image_batch": 5, "training.patch_batch": 7},
    "dropout": {"model.dropout": 0.4, "training.k": 2},
    "no_gan_sgd": {"model.gan": False, "training.optimizer": "sgd", "training.weight_decay": 0.01},
    "empty_shares": {"training.image_batch": 1, "training.patch_batch": 2, "model.dropout": 0.3},
    "everything": {
        "training.ema_decay": 0.9,
        "training.clip_norm": 0.5,
        "training.schedule": "cosine",
        "training.validation_part": 0.25,
        "training.features_rate": 0.5,
        "training.freeze": 1,
    },
    "pretrained": {
        "model.features": "efficientnet-lite0",
        "model.pretrained": True,
        "model.classifier": "linear",
        "training.freeze": 2,
        "training.features_rate": 0.1,
        "training.image_batch": 5,
    },
    "multi_instance": {"model.classifier": "multi-instance", "training.multi_task": False, "model.dropout": 0.2},
    "images_only": {"training.multi_task": False, "model.gan": False, "model.dropout": 0.2},
}


# The settings' own rates. Adam divides by a gradient's size: where that is near its epsilon, a difference in the 17th
# digit becomes one of a billionth of a ten times larger rate.
RATES = {"training.learning_rate.classifier": 3e-4, "training.learning_rate.discriminator": 3e-4}
# Pixels on a side of the images: the smallest number that leaves E's last blocks more than one position. On a single
# one group norm divides four numbers by their own spread, block after block. Wherever four were nearly equal, a
# difference in the 17th digit of a weight grew to the 9th of a gradient: which processor it is would decide.
SIDE = 80


def make(group: ProcessGroup, changes: dict[str, Any]) -> Trainer:
    config = override(ExperimentConfig(), SMALL | RATES | changes, "test")
    return Trainer(config, tiny_data(side=SIDE), np.arange(16), np.arange(16), 1, group=group)


def trained(group: ProcessGroup, changes: dict[str, Any]) -> Trainer:
    """After one epoch."""
    made = make(group, changes)
    made.advance()
    return made


def all_of(made: Trainer) -> dict[str, Any]:
    """All that two epochs leave, and what the trained model says."""
    rows = [made.advance() for _ in range(2)]
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return {"state": made.state_dict(), "rows": rows, "scores": made.score(np.arange(24)).tolist()}


def trainers(group: ProcessGroup) -> dict[str, Any]:
    """Two epochs of each variant."""
    return {name: all_of(make(group, changes)) for name, changes in VARIANTS.items()}


ALGORITHM = [(gan, k, optimizer) for gan in (True, False) for k in (1, 3) for optimizer in ("adam", "sgd")]


def algorithm(group: ProcessGroup) -> dict[str, Any]:
    """Two iterations of Algorithm 1 on the minibatches that the paper's transcription is given."""
    torch.set_default_dtype(torch.float32)  # the same random weights as in the test's process
    found = {}
    for gan, k, optimizer in ALGORITHM:
        model, optimizers, _ = paper.make(gan=gan, optimizer=optimizer)
        batches, noise = paper.draw(k, gan)
        mine = [share_of(batch, group) for batch in batches]
        for _ in range(2):
            list(iterate(model, optimizers, mine, None if noise is None else part(noise, group), GradientStep(group)))
        found[f"{gan} {k} {optimizer}"] = {name: value.detach() for name, value in model.named_parameters()}
    torch.set_default_dtype(torch.float64)
    return found


def part(values: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """Every W-th sample: the result must not depend on who has which."""
    return values[group.rank :: group.world_size]


def share_of(batch: InnerBatch, group: ProcessGroup) -> InnerBatch:
    fields = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    shared = {name: part(value, group) for name, value in fields.items()}
    return InnerBatch(**{"noise": None} | shared, m=len(batch.patches), n=len(batch.images))


def failures(group: ProcessGroup) -> dict[str, Any]:
    """What this process is told when another one fails."""
    last = group.world_size - 1
    return group.exchange(
        {
            "one sample too many": outcome(lambda: memory_of(group, 0, group.rank == last)),
            "diverged": outcome(lambda: diverging(group, group.rank == last)),
            "batch norm": outcome(lambda: trained(group, {"model.norm": "batch"})),
            "fits in parts": outcome(lambda: memory_of(group, 2, group.rank == last)),
        }
    )


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except DiagramError as error:
        return f"{type(error).__name__}: {error}"


def memory_of(group: ProcessGroup, samples: int, here: bool) -> dict[str, torch.Tensor]:
    with little_memory(samples if here else 1000):
        made = trained(group, {"training.image_batch": 9, "training.patch_batch": 8, "model.dropout": 0.3})
    return made.model.state_dict()


@contextmanager
def little_memory(samples: int) -> Iterator[list[int]]:
    """F fails on more than twice as many samples (real ones and generated) while it trains; the sizes that it was then
    asked for."""
    from diagram_ray.models.features import FeatureExtractor

    forward, asked = FeatureExtractor.forward, []

    def limited(self: FeatureExtractor, pixels: torch.Tensor) -> torch.Tensor:
        if self.training:
            asked.append(len(pixels))
        if self.training and len(pixels) > (samples if pixels.shape[-1] > 16 else 2 * samples):
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(pixels)} GiB")
        return forward(self, pixels)

    FeatureExtractor.forward = limited
    try:
        yield asked
    finally:
        FeatureExtractor.forward = forward


def diverging(group: ProcessGroup, here: bool) -> None:
    made = trained(group, {})
    if here:
        with torch.no_grad():
            made.model.classifier.output.bias.fill_(float("nan"))
    made.score(np.arange(6))


N_FOLDS = 3
ROUNDS = 2
TEAMS = {"one after the other": 1, "side by side": 2, "all at once": 3}


def teams(group: ProcessGroup) -> dict[str, Any]:
    """A cross-validation led by the first process, with as many folds at once as TEAMS says."""
    return {name: led(join_teams(at_once) if group.world_size > 1 else FoldTeams()) for name, at_once in TEAMS.items()}


def led(teams: FoldTeams, given: Path | None = None, epochs: int = ROUNDS, **changes: Any) -> dict[str, Any] | None:
    """What the leader gets: from the start or from the checkpoint `given`. None in the followers."""
    own = cross_validation(teams, changes)
    if teams.world.rank:
        run_follower(own, teams.world)
        return None
    leader = LeaderCrossValidation(own, teams.world)
    try:
        if given is not None:
            leader.load_state_dict(CheckpointStore(given, leader.identity).load()[1])
        rounds = [*leader.advance(2, 1), *leader.advance(N_FOLDS, epochs)]
        with tempfile.TemporaryDirectory() as folder:
            leader.export(Path(folder))
            models = {f.name: safetensors.torch.load(f.read_bytes()) for f in Path(folder).glob("*.safetensors")}
            card = (Path(folder) / "config.yaml").read_text() + (Path(folder) / "patients.json").read_text()
        measured = vars(leader.measure(N_FOLDS))
        times = {key: measured.pop(key) for key in ("seconds", "worker_seconds")}
        return {
            "rounds": [[{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in rounds],
            "seconds": [[(row["fold"], row["seconds"]) for row in rows] for rows in rounds],
            "times": times,
            "measured": measured,
            "models": models,
            "card": card,
            "predictions": leader.predictions().to_pylist(),
            "state": leader.state_dict(),
        }
    finally:
        leader.dismiss()


def cross_validation(teams: FoldTeams, changes: dict[str, Any]) -> ParallelCrossValidation:
    config = override(ExperimentConfig(), SMALL | RATES | {"model.dropout": 0.2} | changes, "test")
    data = tiny_data(side=SIDE)
    return ParallelCrossValidation(config, data, make_splits(data, N_FOLDS, 0), teams=teams)


def save(group: ProcessGroup) -> None:
    """One epoch, and a checkpoint of it in FOLDER."""
    own = cross_validation(join_teams(2) if group.world_size > 1 else FoldTeams(), {})
    list(own.advance(N_FOLDS, 1))
    state = own.state_dict()
    if group.rank == 0:
        with CheckpointStore(FOLDER.parent / f"saved-{group.world_size}", own.identity) as store:
            store.save(N_FOLDS, state)


def resume(group: ProcessGroup) -> dict[str, Any]:
    """Goes on from the checkpoint of another number of processes, with several folds at once in one process."""
    given = {1: 3, 2: 3, 3: 1}[group.world_size]
    return led(join_teams(N_FOLDS) if group.world_size > 1 else FoldTeams(at_once=2), FOLDER.parent / f"saved-{given}")


def one_fold_fails(group: ProcessGroup) -> dict[str, str]:
    """What each process is told when fold 1 alone diverges or runs out of memory, or cannot be begun."""
    teams = join_teams(2) if group.world_size > 1 else FoldTeams()
    found = {}
    for name, (epoch, spoil) in {"diverged": (1, poison), "out of memory": (1, starve), "unfit": (0, mislabel)}.items():
        own = cross_validation(teams, {})
        for _ in range(epoch):
            own.advance_once(N_FOLDS, 9)
        spoil(own)
        found[name] = outcome(lambda own=own: own.advance_once(N_FOLDS, 9))
    return group.exchange(found)


def poison(own: ParallelCrossValidation) -> None:
    if own.teams.has(1):
        with torch.no_grad():
            own._run(1).trainer.model.classifier.output.bias.fill_(float("nan"))


def starve(own: ParallelCrossValidation) -> None:
    if own.teams.has(1):
        own._run(1).trainer.model.features.forward = out_of_memory


def out_of_memory(pixels: torch.Tensor) -> torch.Tensor:
    raise MemoryError("a lot")


def mislabel(own: ParallelCrossValidation) -> None:
    own._run(1).fold = replace(own._run(1).fold, train_patches=np.arange(0))


CASES = {
    "trainers": trainers,
    "algorithm": algorithm,
    "failures": failures,
    "teams": teams,
    "save": save,
    "resume": resume,
    "one_fold_fails": one_fold_fails,
}
FOLDER = Path(sys.argv[3]) if __name__ == "__main__" else Path()


def main(rank: int, world: int, folder: Path, what: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    group: ProcessGroup = SINGLE_PROCESS
    if world > 1:
        store = dist.FileStore(str(folder / "store"), world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120))
        group = DistributedGroup()
    found = {name: CASES[name](group) for name in json.loads(what)}
    if rank == 0:
        torch.save(found, folder / "result.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
