"""`python -m diagram_ray.doctor`."""

from diagram_ray.doctor.command import app

app()
