"""The doctor asked about a study, what it finds, and what the study's files are."""

import hashlib
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from diagram_ray.doctor import command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def findings(result: Result) -> list[dict]:
    return json.loads(result.stdout.splitlines()[-1])["findings"]


def content(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
