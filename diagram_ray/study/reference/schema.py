"""The JSON schema docs/study.schema.json, by which editors complete and check a study file or a file of stages.

It says which keys and values there are. What depends on two of them is checked by `tune` alone.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from diagram_ray.config import ExperimentConfig, Frozen, dotted_keys, section_of
from diagram_ray.search.space import FIDELITY, FROM_DATA, KINDS
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.pipeline import StagesConfig


def study_schema() -> str:
    """The schema as text: of a file of stages where there is a key `stages`, else of a study file."""
    kinds: list[type[Frozen]] = [StudyConfig, StagesConfig, ExperimentConfig]
    definitions = _plain(models_json_schema([(kind, "validation") for kind in kinds])[1]["$defs"])
    definitions["Range"] = definitions["StudyConfig"]["properties"]["space"]["additionalProperties"]
    _with_keys(definitions["StudyConfig"]["properties"])
    for kind in KINDS.values():
        definitions[kind.__name__]["required"].append("type")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study file of diagram_ray",
        "if": {"required": ["stages"]},
        "then": {"$ref": "#/$defs/StagesConfig"},
        "else": {"$ref": "#/$defs/StudyConfig"},
        "$defs": definitions,
    }
    return json.dumps(document, indent=1) + "\n"


def _with_keys(study: dict[str, Any]) -> None:
    """Names the keys that `base`, `space` and `first` may have."""
    searchable = [key for key in dotted_keys(ExperimentConfig) if _searchable(key)]
    study["base"] |= {"properties": dict(_references(ExperimentConfig)), "additionalProperties": False}
    ranges = {key: {"$ref": "#/$defs/Range"} for key in searchable}
    study["space"] |= {"properties": ranges, "additionalProperties": False, "minProperties": 1}
    study["first"]["items"]["propertyNames"] = {"enum": searchable}


def _searchable(key: str) -> bool:
    return key != FIDELITY and key not in FROM_DATA and not key.startswith("data.")


def _references(kind: type[Frozen], prefix: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Every dotted key of a configuration, those of whole sections included, and where its schema stands."""
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}", {"$ref": f"#/$defs/{kind.__name__}/properties/{name}"}
        if section := section_of(field.annotation):
            yield from _references(section, f"{prefix}{name}.")


def _plain(value: Any) -> Any:
    """A schema whose texts have no line breaks, and without the titles that are made of the names."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if key != "title"}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return " ".join(value.split()) if isinstance(value, str) else value
