"""Conditional spaces: a parameter that exists only where others have given values.

space:
  model.gan: {type: categorical, choices: [true, false]}
  model.latent_size: {type: int, low: 32, high: 256, log: true, when: {model.gan: [true]}}

A parameter exists if every key that it names exists itself and has one of the values named. One that does not exist is
in no table and in no proposal, and its setting keeps the value of `base`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from diagram_ray.errors import ConfigError
from diagram_ray.search.space import Range, Space, Value
from diagram_ray.setting_keys import unknown_key

LARGEST_GRID = 1_000_000


def ordered(space: Space) -> Space:
    """The space sorted by name, but each key after those that its conditions name: the file's order must not matter."""
    arranged: Space = {}
    remaining = dict(sorted(space.items()))
    while remaining:
        key = next(key for key, values in remaining.items() if not remaining.keys() & values.when.keys())
        arranged[key] = remaining.pop(key)
    return arranged


def exists(values: Range, params: Mapping[str, Any]) -> bool:
    """Whether what is decided in `params` lets a parameter exist."""
    return all(key in params and among(params[key], allowed) for key, allowed in values.when.items())


def existing(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters among `params` that exist. `space` is in the order of `ordered`."""
    present: dict[str, Any] = {}
    for key, values in space.items():
        if key in params and exists(values, present):
            present[key] = params[key]
    return present


def among(value: Any, allowed: Sequence[Value]) -> bool:
    """Whether `value` is one of the allowed ones. True is not 1, but 2.0 is 2."""
    return any(_same(value, choice) for choice in allowed)


def configurations(space: Space) -> Iterator[dict[str, Any]]:
    """Yields every configuration of an `ordered` space without real ranges, once."""
    yield from _extended(list(space.items()), {})


def grid_size(space: Space, where: str) -> int:
    """The number of configurations. Raises ConfigError if there is no end of them."""
    for key, values in space.items():
        if values.points() is None:
            raise ConfigError(f"{where}: space.{key}: a grid needs a step, or choices")
    size = math.prod(len(values.points() or ()) for values in space.values())
    if any(values.when for values in space.values()):
        size = sum(1 for _ in islice(configurations(ordered(space)), LARGEST_GRID + 1))
    if size > LARGEST_GRID:
        count = f"{size}" if size > LARGEST_GRID + 1 else f"more than {LARGEST_GRID}"
        raise ConfigError(f"{where}: space: {count} configurations are too many for a grid; at most {LARGEST_GRID}")
    return size


def check_conditions(space: Space, where: str) -> None:
    """Raises ConfigError for a condition on what is not searched, on a value that it never has, or on itself."""
    for key, values in space.items():
        for parent, allowed in values.when.items():
            _check_condition(space, parent, allowed, f"{where}: space.{key}.when")
    for key in space:
        _check_no_circle(space, (key,), where)


def check_points(points: Sequence[Mapping[str, Any]], space: Space, where: str) -> None:
    """Raises ConfigError if one of the configurations of `first` is not in the space."""
    for number, point in enumerate(points):
        here = f"{where}: first[{number}]"
        for key, value in point.items():
            if key not in space:
                raise unknown_key(key, sorted(space), here)
            if not space[key].holds(value):
                allowed = space[key].model_dump(exclude_defaults=True)
                raise ConfigError(f"{here}.{key}: {value!r} is not in the space: {allowed}")
            for parent, needed in space[key].when.items():
                if parent in point and not among(point[parent], needed):
                    raise ConfigError(
                        f"{here}.{key}: exists only where {parent} is one of {needed}, and here it is {point[parent]!r}"
                    )


def settle(raw: dict[str, Any], key: str, value: Any) -> None:
    """Fixes a searched key at a value: in a study file's `space` (`raw`), `key` leaves the space.

    Conditions on it that are met are dropped; what can no longer exist leaves the space as well.
    """
    raw.pop(key, None)
    for name, values in list(raw.items()):
        when = values.get("when") if isinstance(values, dict) else None
        if name in raw and isinstance(when, dict) and isinstance(when.get(key), list):
            if among(value, when[key]):
                raw[name] = {**values, "when": {other: when[other] for other in when if other != key}}
            else:
                _remove(raw, name)


def worded(when: Mapping[str, Any]) -> str:
    """The conditions of a parameter, for people; empty if it has none."""
    return " and ".join(f"{key} is {' or '.join(map(_short, allowed))}" for key, allowed in when.items())


def _same(value: Value, other: Value) -> bool:
    if isinstance(value, float) and isinstance(other, int | float) and not isinstance(other, bool):
        return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)  # 0.1 + 2 x 0.1 is a step that is written 0.3
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _short(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _remove(raw: dict[str, Any], key: str) -> None:
    raw.pop(key, None)
    for name, values in list(raw.items()):
        if isinstance(values, dict) and isinstance(values.get("when"), dict) and key in values["when"]:
            _remove(raw, name)


def _extended(ranges: Sequence[tuple[str, Range]], params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not ranges:
        yield params
        return
    (key, values), *rest = ranges
    if not exists(values, params):
        yield from _extended(rest, params)
        return
    for value in values.points() or ():
        yield from _extended(rest, {**params, key: value})


def _check_condition(space: Space, parent: str, allowed: Sequence[Value], where: str) -> None:
    if parent not in space:
        raise ConfigError(f"{unknown_key(parent, sorted(space), where)} A condition names a key that is searched.")
    if space[parent].points() is None:
        raise ConfigError(f"{where}.{parent}: a condition needs values that can be listed; give {parent} a step")
    if not allowed:
        raise ConfigError(f"{where}.{parent}: [] names no value, so the parameter would never exist")
    for value in allowed:
        if not space[parent].holds(value):
            definition = space[parent].model_dump(exclude_defaults=True)
            raise ConfigError(f"{where}.{parent}: {value!r} is never the value of {parent}: {definition}")


def _check_no_circle(space: Space, path: tuple[str, ...], where: str) -> None:
    for parent in space[path[-1]].when:
        if parent in path:
            circle = " -> ".join((*path[path.index(parent) :], parent))
            raise ConfigError(f"{where}: space.{path[0]}.when: the conditions go in a circle: {circle}")
        _check_no_circle(space, (*path, parent), where)
