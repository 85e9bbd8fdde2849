"""Settings by their dotted keys (`training.learning_rate.generator`): how one is set, and errors that name it."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from diagram_ray.errors import ConfigError

LONGEST_VALUE = 200
"""Characters of a value that a message quotes."""


def set_key(nested: dict[str, Any], key: str, value: Any, keys: list[str], where: str) -> None:
    """Sets one dotted key in a dumped config with these `keys`; a mapping given for a section sets the keys below it.

    Raises ConfigError for a key that is not among them.
    """
    for path, leaf in _leaves(key, value, keys):
        *sections, name = path.split(".")
        target: Any = nested
        for section in sections:
            target = target.get(section) if isinstance(target, dict) else None
        if not isinstance(target, dict) or path not in keys:
            raise unknown_key(path, keys, where)
        target[name] = leaf


def _leaves(key: str, value: Any, keys: list[str]) -> Iterator[tuple[str, Any]]:
    """The dotted keys and values that `key: value` stands for: more than one where `key` is a section."""
    if isinstance(value, Mapping) and any(name.startswith(f"{key}.") for name in keys):
        for name, below in value.items():
            yield from _leaves(f"{key}.{name}", below, keys)
    else:
        yield key, value


def unknown_key(key: str, keys: list[str], where: str) -> ConfigError:
    """The error for a key that does not exist: the nearest one, or all of them."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(sorted(keys))}"
    return ConfigError(f"{where}: unknown key {key!r}; {hint}")


def explanation(error: ValidationError, keys: list[str], where: str) -> str:
    """The first error of a config with these `keys`, in a sentence."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    value = first["input"]
    if first["type"] == "extra_forbidden":
        return str(unknown_key(key, keys, where))
    if first["type"] == "missing":
        return f"{where}: {key} is missing"
    if isinstance(value, str) and _is_number(value):
        return f"{where}: {key}: {value!r} is text, not a number (YAML wants a point in it): write {_number(value)}"
    return f"{where}: {key}: {_short(value)} is not allowed: {first['msg'].removeprefix('Value error, ')}"


def _short(value: object) -> str:
    words = repr(value)
    return words if len(words) <= LONGEST_VALUE else f"{words[:LONGEST_VALUE]} …"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    return text if not exponent or "." in mantissa else f"{mantissa}.0e{exponent}"
