"""The report of one or several studies: one self-contained page."""

from diagram_ray.reporting.page import write_report

__all__ = ["write_report"]
