"""What is used of pydicom, imported without GDCM, which has no place in this process.

pydicom imports GDCM wherever that is installed, although here a child process decodes with it (`gdcm_child`). GDCM in
turn asks for a module `dl` that Python has not had since version 3: with `python -m` any folder of that name in the
working directory is taken for one, and nothing can be imported. And the zlib that it brings along may take the place of
Python's own, which then damages the memory. So while pydicom is imported here, there is no GDCM for it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def _without_gdcm() -> Iterator[None]:
    """GDCM cannot be imported in here, unless it is there already."""
    modules = cast(dict[str, ModuleType | None], sys.modules)
    if "gdcm" in modules:
        yield
        return
    modules["gdcm"] = None
    try:
        yield
    finally:
        del modules["gdcm"]


with _without_gdcm():
    from pydicom import dcmread as dcmread
    from pydicom import uid as uid
    from pydicom.datadict import tag_for_keyword as tag_for_keyword
    from pydicom.dataset import Dataset as Dataset
    from pydicom.dataset import FileDataset as FileDataset
    from pydicom.dataset import FileMetaDataset as FileMetaDataset
    from pydicom.encaps import get_frame as get_frame
    from pydicom.multival import MultiValue as MultiValue
