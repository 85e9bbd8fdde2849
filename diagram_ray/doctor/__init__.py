"""The doctor of a study's folder: finds what is wrong, and puts it right: `python -m diagram_ray.doctor`."""
