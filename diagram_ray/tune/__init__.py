"""The command `python -m diagram_ray.tune`: its plan, its price and its run."""
