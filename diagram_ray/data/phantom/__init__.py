"""The phantom: synthetic mammograms with known truth, written as an INbreast-like folder of real files."""

from diagram_ray.data.phantom.inbreast_form import make_phantom

__all__ = ["make_phantom"]
