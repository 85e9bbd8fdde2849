"""diagram_ray: distributed hyperparameter search and honest cross-validation for DiaGRAM (Shams et al. 2018)."""

from diagram_ray.results import Study

__version__ = "0.1.0"
__all__ = ["Study", "__version__"]
