"""The four networks of DiaGRAM (paper Sect. 2.2), in plain PyTorch."""

from diagram_ray.models.diagram import DiaGRAM
from diagram_ray.models.discriminator import PatchLogits
from diagram_ray.models.meta_device import outline

__all__ = ["DiaGRAM", "PatchLogits", "outline"]
