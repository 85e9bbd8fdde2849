"""Lossless JPEG under its public name."""

from diagram_ray.data.decoding.ljpeg import decode

__all__ = ["decode"]
