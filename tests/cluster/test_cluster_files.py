"""The files that start a cluster: Ray takes them, the versions are the tested ones, and they give nothing away."""

import json
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.support.repository import ROOT

CLUSTER = ROOT / "cluster"
LAUNCHED = ("aws.yaml", "gcp.yaml", "on-prem.yaml")
MANIFESTS = sorted(CLUSTER.glob("**/*.yaml"))
DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_THE_AUTOSCALER = {"google-api-python-client"}
"""Packages that only Google's machines need: the tests run without them."""


def read(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text())


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_takes_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = prepare_config(read(name))
    validate_config(config)
    config["head_node_typo"] = config.pop("head_node_type")
    with pytest.raises(Exception, match="head_node_typo"):
        validate_config(config)


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_head_trains_nothing_and_machines_come_and_go(name: str) -> None:
    config = read(name)
    types = config["available_node_types"]
    head, spot, steady = (types[key] for key in (config["head_node_type"], "gpu_spot", "gpu_on_demand"))
    assert head["resources"] == {"CPU": 0, "GPU": 0, "head": 1}
    assert spot["min_workers"] == steady["min_workers"] == 0
    assert 0 < spot["max_workers"] <= config["max_workers"]
    assert spot["resources"] == steady["resources"]  # so that the one can stand in for the other
    assert spot["priority"] > steady["priority"]
    assert "spot" in json.dumps(spot["node_config"]).lower()
    assert "spot" not in json.dumps(steady["node_config"]).lower()
    assert config["idle_timeout_minutes"] <= 15


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_launched_cluster_asks_for_a_token_on_loopback(name: str) -> None:
    config = read(name)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    head, workers = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert "--num-cpus=0" in head
    assert "ray start --head" in head
    assert "ray start --address" in workers
    where = " ".join([*config.get("setup_commands", []), *config["docker"]["run_options"]])
    assert "fetch_token.py" in where or "RAY_AUTH_TOKEN_PATH" in where


def test_aws_opens_nothing_to_the_world() -> None:
    for each in read("aws.yaml")["available_node_types"].values():
        assert each["node_config"]["SecurityGroupIds"]
        assert each["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


@pytest.mark.parametrize("path", [*MANIFESTS, CLUSTER / "Dockerfile"], ids=lambda path: path.name)
def test_holds_no_secret(path: Path) -> None:
    text = path.read_text()
    assert [word for word in re.findall(r"[A-Za-z0-9+]{24,}", text) if re.search(r"\d", word)] == []
    assert re.findall(r"AKIA|BEGIN [A-Z ]*PRIVATE KEY|(?i:password|secret_access_key|auth_token\s*[:=])", text) == []


def test_versions_are_those_of_the_tests() -> None:
    python = re.search(r"^FROM python:(\d+\.\d+)", DOCKERFILE, re.MULTILINE)
    assert python is not None
    assert PROJECT["requires-python"] == f">={python[1]}"
    assert f"{sys.version_info.major}.{sys.version_info.minor}" == python[1]
    assert "--constraint constraints.txt" in DOCKERFILE
    for name, version in re.findall(r"([a-z][\w.-]+)==(\d[\w.]*)", DOCKERFILE):
        assert PINS.get(name, version if name in OF_THE_AUTOSCALER else None) == version, name
    required = {re.split(r"[\[<>=]", each)[0].lower() for each in PROJECT["dependencies"]}
    assert required <= {name.lower() for name in PINS}
    for path in MANIFESTS:
        assert set(re.findall(r"rayVersion: (\S+)", path.read_text())) <= {PINS["ray"]}, path
        tags = re.findall(r"diagram-ray:(\d\S*)", path.read_text())
        assert set(tags) <= {PROJECT["version"]}, path


def test_image_has_what_the_commands_name() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
    text = "".join(path.read_text() for path in MANIFESTS)
    for name in set(re.findall(r"/opt/diagram_ray/(\S+\.(?:py|yaml))", text)):
        assert (ROOT / name).is_file() or (CLUSTER / name).is_file(), name


COMMAND = re.compile(r"python -m (diagram_ray\.\w+)([^;`\n]*)")


def test_commands_have_the_options_that_they_are_given() -> None:
    files = [*MANIFESTS, CLUSTER / "README.md", CLUSTER / "Dockerfile"]
    used = {(module, option) for path in files for module, option in _options(path.read_text())}
    assert len(used) > 4
    for module in {module for module, _ in used}:
        shown = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        for option in {option for name, option in used if name == module}:
            assert re.search(rf"{option}\b", shown), f"{module} {option}"


def _options(text: str) -> list[tuple[str, str]]:
    joined = text.replace("\\\n", " ")
    found = [(module, word) for module, rest in COMMAND.findall(joined) for word in shlex.split(rest, comments=True)]
    return [(module, word) for module, word in found if word.startswith("--")]


def test_every_blank_is_explained() -> None:
    readme = (CLUSTER / "README.md").read_text()
    blanks = {blank for path in MANIFESTS for blank in re.findall(r"[\w-]*CHANGE_ME[\w-]*", path.read_text())}
    assert blanks
    assert {blank for blank in blanks if f"`{blank}`" not in readme} == set()


def test_upload_is_the_code_alone() -> None:
    ignored = get_excludes_from_ignore_files(ROOT, include_gitignore=True)

    def uploaded(name: str) -> bool:
        return not any(exclude(ROOT / part) for part in _parts(name) for exclude in ignored)

    inside = [str(path.relative_to(ROOT)) for path in (ROOT / "diagram_ray").rglob("*.py")]
    assert [name for name in [*inside, "search_spaces/quickstart.yaml"] if not uploaded(name)] == []
    kept = (".git/config", ".venv/bin/python", "runs/a/report.html", "data/x.png", "models/m/config.yaml", "a/b.dcm")
    assert [name for name in kept if uploaded(name)] == []


def _parts(name: str) -> list[str]:
    """The path and the folders above it: Ray asks of each."""
    parts = Path(name).parts
    return [str(Path(*parts[: number + 1])) for number in range(len(parts))]


@mock_aws
def test_token_comes_from_the_secret_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.syspath_prepend(str(CLUSTER))
    import fetch_token

    token = "a1" * 32
    client = boto3.client("secretsmanager", region_name="us-west-2")
    client.create_secret(Name="diagram-ray/token", SecretString=f"{token}\n")
    path = tmp_path / ".ray" / "auth_token"
    fetch_token.write(fetch_token.from_aws("us-west-2", "diagram-ray/token"), path)
    assert path.read_text() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SystemExit, match="at least 32"):
        fetch_token.write("short", path)
