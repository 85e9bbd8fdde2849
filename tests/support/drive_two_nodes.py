"""Prepares RAW as OUT on a Ray cluster of two nodes, of which one is lost halfway.

    python -m tests.support.drive_two_nodes RAW OUT

A program of its own, because Ray reads RAY_AUTH_MODE when it is imported. Prints how many processors there were
and are.
"""

import os
import sys

import ray
from ray.cluster_utils import Cluster

from diagram_ray.data.parquet.progress import PreparationProgress
from diagram_ray.data.preprocessing.prepare_image import Options
from diagram_ray.data.readers import inbreast
from diagram_ray.distributed import prepare_dataset
from diagram_ray.distributed.session import ray_session

SOON = {
    "health_check_initial_delay_ms": 2000, "health_check_period_ms": 500, "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}  # fmt: skip
"""When a node that does not answer is taken for lost."""


def main(raw: str, out: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": SOON})
    node = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    lost = False

    def lose(tally: PreparationProgress) -> None:
        nonlocal lost
        if tally.done >= 8 and not lost:
            lost = True
            print(f"{processors()} processors")
            cluster.remove_node(node, allow_graceful=False)

    try:
        with ray_session():
            options = Options((64, 48), 32, 2, b"a key of the test", "negative")
            prepare_dataset.prepare_dataset(inbreast.index(raw), out, options, "phantom", lose)
            print(f"{processors()} processors")
    finally:
        cluster.shutdown()


def processors() -> int:
    return int(sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))


if __name__ == "__main__":
    prepare_dataset.PIECE_IMAGES = 2
    main(*sys.argv[1:])
