"""`python -m diagram_ray.tune`."""

from diagram_ray.tune.command import app

app()
