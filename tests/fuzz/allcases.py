"""All cases that were written by hand: importing the modules that hold them registers them."""

from tests.fuzz import (
    handmade_archives,
    handmade_ddsm,
    handmade_dicom,
    handmade_pictures,
    handmade_tables,
)
from tests.fuzz.handmade import HANDMADE

MODULES = (
    handmade_archives,
    handmade_ddsm,
    handmade_dicom,
    handmade_pictures,
    handmade_tables,
)

__all__ = ["HANDMADE", "MODULES"]
