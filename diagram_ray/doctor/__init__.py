"""What is wrong in a study's folder, and what puts it right: `python -m diagram_ray.doctor`."""
