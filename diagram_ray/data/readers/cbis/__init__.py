"""CBIS-DDSM (Lee et al., Sci Data 2017; DOI 10.7937/K9/TCIA.2016.7O02S9CY): four tables and a tree of DICOM files."""

from diagram_ray.data.readers.cbis.reader import index

__all__ = ["index"]
