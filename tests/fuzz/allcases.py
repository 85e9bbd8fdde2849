"""All cases that were written by hand: importing the modules that hold them registers them."""

from tests.fuzz.handmade import archives, ddsm, dicom, pictures, tables
from tests.fuzz.handmade.registry import HANDMADE

MODULES = (archives, ddsm, dicom, pictures, tables)

__all__ = ["HANDMADE", "MODULES"]
