"""Makes `cbis_tree` importable for the tests beside it."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("cbis_tree", Path(__file__).with_name("cbis_tree.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["cbis_tree"] = _module
_spec.loader.exec_module(_module)
