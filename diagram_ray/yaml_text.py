"""YAML and KEY=VALUE texts, read strictly: no key twice, no objects, and errors in one sentence."""

import json
from typing import Any

import yaml

from diagram_ray.errors import ConfigError, one_line
from diagram_ray.storage.paths import Place


def parse_assignment(text: str) -> tuple[str, Any]:
    """The key and the value of a --set text `a.b=value`. The value is read as JSON (1e-5 is a number), else as YAML.
    Raises ConfigError."""
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {text!r}: expected KEY=VALUE, for example training.k=2")
    try:
        return key.strip(), json.loads(raw)
    except json.JSONDecodeError:
        return key.strip(), _yaml(raw, f"--set {key}")


def read_yaml(path: Place) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError if there is no such file or no mapping in it."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    values = _yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} is given {keys.count(key)} times")
        return super().construct_mapping(node, deep)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {one_line(error)}") from None
    except Exception as error:  # PyYAML raises many kinds, such as for dates that are none
        raise ConfigError(f"{where}: not valid YAML: {type(error).__name__}") from None
