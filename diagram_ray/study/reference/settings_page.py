"""The page of all settings, docs/settings.md. `make docs` makes it and docs/study.schema.json from the code."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from diagram_ray.config import ExperimentConfig, Frozen, section_of
from diagram_ray.search.space import KINDS
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.pipeline import Stage, StagesConfig
from diagram_ray.study.reference.schema import study_schema

HEAD = """# Settings

Made from the code by `make docs`: change the code, not this page. `study.schema.json` says the same to editors.

Every setting of the configuration and of a study can stand in a study file, or follow `--set` as KEY=VALUE. None is
written `null`, True `true` and False `false`.

## The configuration

All that decides the weights that come out, given the data. In a study file these keys stand in `base`, where they hold
for all trials, or in `space`, where they are searched.
"""
STUDY = "\n## The study\n\nKeys of the study file itself.\n"
RANGES = "\n## Ranges\n\nWhat stands in `space` behind a key of the configuration.\n"
STAGES = "\n## A file of stages\n\nStudies and trainings that build on each other, as one job.\n"
COLUMNS = "\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n"

TYPES = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list", "object": "mapping"}
"""JSON's type -> its name on the page; others keep theirs."""
BOUNDS = {
    "minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}",
    "multipleOf": "multiples of {}", "minLength": "at least {} character", "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}  # fmt: skip
"""JSON schema's word -> the page's."""


def settings_page() -> str:
    """The page: a table for every section."""
    ranges = [_table(kind, f"\n### type: {name}\n") for name, kind in KINDS.items()]
    stages = [_table(StagesConfig), _table(Stage, "\n### Each of `stages`\n")]
    return "".join([HEAD, *_tables(ExperimentConfig), STUDY, *_tables(StudyConfig), RANGES, *ranges, STAGES, *stages])


def _tables(kind: type[Frozen], prefix: str = "") -> Iterator[str]:
    """The table of the settings that stand in `kind` itself, and those of its sections."""
    yield _table(kind, f"\n### `{prefix[:-1]}`\n" if prefix else "", prefix)
    for name, field in kind.model_fields.items():
        if section := section_of(field.annotation):
            yield from _tables(section, f"{prefix}{name}.")


def _table(kind: type[Frozen], heading: str = "", prefix: str = "") -> str:
    described = kind.model_json_schema()
    single = [name for name, field in kind.model_fields.items() if section_of(field.annotation) is None]
    required = [*described.get("required", []), *(["type"] if kind in KINDS.values() else [])]
    rows = [_row(f"{prefix}{name}", described["properties"][name], name in required) for name in single]
    about = f"{heading}\n{inspect.cleandoc(kind.__doc__ or '')}\n" if heading else ""
    return about + (COLUMNS + "".join(rows) if rows else "")


def _row(key: str, setting: dict[str, Any], required: bool) -> str:
    default = "required" if required else f"`{_as_yaml(setting['default'])}`"
    meaning = " ".join(setting.get("description", "").split())
    cells = [f"`{key}`", ", ".join(_types(setting)), default, "; ".join(_allowed(setting)), meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _types(setting: dict[str, Any]) -> list[str]:
    names = [part.get("type", "") for part in setting.get("anyOf", [setting])]
    return [TYPES.get(name, name) for name in dict.fromkeys(names)]


def _allowed(setting: dict[str, Any]) -> list[str]:
    """The values that are allowed, where the type does not say it all."""
    choices = [*setting.get("enum", setting.get("items", {}).get("enum", []))]
    choices += [setting["const"]] if "const" in setting else []
    words = [", ".join(f"`{_as_yaml(choice)}`" for choice in choices)] if choices else []
    words += [word.format(f"{setting[bound]:g}") for bound, word in BOUNDS.items() if bound in setting]
    words += [f"`{setting['pattern']}`"] if "pattern" in setting else []
    return words + [word for part in setting.get("anyOf", []) for word in _allowed(part)]


def _as_yaml(value: Any) -> str:
    """The value in one line, as it may stand in a study file."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n")[0]


if __name__ == "__main__":
    write_atomic(Path(sys.argv[1], "settings.md"), settings_page())
    write_atomic(Path(sys.argv[1], "study.schema.json"), study_schema())
