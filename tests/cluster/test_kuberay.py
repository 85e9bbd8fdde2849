"""The Kubernetes manifests: KubeRay's own schemas take them, with no key that would be dropped without a word."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from diagram_ray.study.config import read_study
from tests.support.repository import ROOT

KUBERAY = ROOT / "cluster" / "kuberay"
RAY_FILES = ("raycluster.yaml", "rayjob-pvc.yaml", "rayjob-object-store.yaml")
SCHEMAS = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}
CORE = {
    "Namespace": ("v1", {"apiVersion", "kind", "metadata"}),
    "ServiceAccount": ("v1", {"apiVersion", "kind", "metadata", "automountServiceAccountToken"}),
    "PersistentVolumeClaim": ("v1", {"apiVersion", "kind", "metadata", "spec"}),
    "NetworkPolicy": ("networking.k8s.io/v1", {"apiVersion", "kind", "metadata", "spec"}),
}


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((KUBERAY / name).read_text()))


def strict(schema: Any) -> Any:
    """The schema with unknown keys refused: Kubernetes would drop them."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@functools.cache
def strict_schema(path: Path, api: str) -> Any:
    """KubeRay's of this kind and version. Its files are about a MiB long."""
    crd = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (each for each in crd["spec"]["versions"] if api == f"ray.io/{each['name']}")
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def problems(document: dict, real_data: Path) -> list[str]:
    schema = strict_schema(real_data / "kuberay-crds" / SCHEMAS[document["kind"]], document["apiVersion"])
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message[:200]}" for each in found]


@pytest.mark.real
@pytest.mark.parametrize("name", RAY_FILES)
def test_kuberay_takes_it(name: str, real_data: Path) -> None:
    (document,) = documents(name)
    assert problems(document, real_data) == []
    document["spec"]["suspended"] = True
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = 3
    told = problems(document, real_data)
    assert {line.partition(":")[0].rpartition("/")[2] for line in told} == {"spec", "image"}


@pytest.fixture(params=RAY_FILES)
def cluster_spec(request: pytest.FixtureRequest) -> dict:
    (document,) = documents(request.param)
    return document["spec"].get("rayClusterSpec", document["spec"])


def test_all_have_the_same_cluster() -> None:
    """But for the volume, which a study in a bucket does not need."""
    specs = [each["spec"].get("rayClusterSpec", each["spec"]) for name in RAY_FILES for each in documents(name)]
    assert specs[0] == specs[1] != specs[2]
    for group in (specs[0]["headGroupSpec"], *specs[0]["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "studies"]
        container = pod["containers"][0]
        container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != "studies"]
    assert specs[0] == specs[2]


def test_cluster_is_protected_and_scales(cluster_spec: dict) -> None:
    assert cluster_spec["authOptions"] == {"mode": "token"}
    assert cluster_spec["enableInTreeAutoscaling"] is True
    assert cluster_spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    spot, steady = cluster_spec["workerGroupSpecs"]
    assert spot["priority"] > steady["priority"]
    for group in (spot, steady):
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        container = group["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def pods(name: str) -> list[dict]:
    (document,) = documents(name)
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    found = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    if "submitterPodTemplate" in document["spec"]:
        found.append(document["spec"]["submitterPodTemplate"])
    return [each["spec"] for each in found]


@pytest.mark.parametrize("name", RAY_FILES)
def test_pods_meet_the_restricted_standard(name: str) -> None:
    for pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert set(pod) & {"hostNetwork", "hostPID", "hostIPC"} == set()
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= {"persistentVolumeClaim", "emptyDir"}


@pytest.mark.parametrize("name", RAY_FILES[1:])
def test_a_job_cleans_up_and_can_be_suspended(name: str) -> None:
    (document,) = documents(name)
    spec = document["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["suspend"] is False
    bucket = "s3://CHANGE_ME-bucket" if "object-store" in name else ""
    study = f"{bucket}/studies/{document['metadata']['name']}"
    assert f"--resume {study} --json" in spec["entrypoint"]
    assert f"--out {study} --set " in spec["entrypoint"]
    settings = re.findall(r"--set (\S+)", spec["entrypoint"])
    parallel = read_study(ROOT / "search_spaces" / "ddsm_k_lr.yaml", settings)[0].parallel
    assert parallel.elastic  # the cluster begins without machines
    assert parallel.trials == max(group["maxReplicas"] for group in spec["rayClusterSpec"]["workerGroupSpecs"])
    assert "--from-literal" not in spec["entrypoint"]


def test_the_job_goes_on_only_with_a_study_that_is_in_the_bucket(tmp_path: Path) -> None:
    """The entrypoint, with a folder as the bucket and a `python` that tells what the real one would be asked."""
    (document,) = documents("rayjob-object-store.yaml")
    entrypoint = document["spec"]["entrypoint"].replace("s3://CHANGE_ME-bucket", str(tmp_path / "bucket"))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\necho "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    study = tmp_path / "bucket" / "studies" / "ddsm-k-lr-s3"
    for there, expected in ((False, f"--out {study} --set "), (True, f"diagram_ray.tune --resume {study} --json")):
        if there:
            study.mkdir(parents=True)
            (study / "study.yaml").touch()
        told = subprocess.run(["sh", "-c", entrypoint], env=environment, capture_output=True, text=True, check=True)
        assert expected in told.stdout
        assert told.stdout.count("diagram_ray.tune") == 1


def test_what_is_shared_is_well_formed_and_closed() -> None:
    shared = documents("namespace.yaml")
    for document in shared:
        version, keys = CORE[document["kind"]]
        assert document["apiVersion"] == version
        assert set(document) <= keys
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "diagram-ray"
    policies = {each["metadata"]["name"]: each["spec"] for each in shared if each["kind"] == "NetworkPolicy"}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        _check_policy(spec)
        open_to_all = [rule for rule in spec.get("ingress", []) if not rule.get("from")]
        assert open_to_all == [], name
        for rule in spec.get("ingress", []):
            if any(port["port"] == 8080 for port in rule.get("ports", [])):
                assert rule["from"] == [
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
                ]
    (claim,) = (each["spec"] for each in shared if each["kind"] == "PersistentVolumeClaim")
    assert set(claim) == {"accessModes", "storageClassName", "resources"}
    assert claim["accessModes"] == ["ReadWriteMany"]  # all nodes write checkpoints
    accounts = {each["metadata"]["name"] for each in shared if each["kind"] == "ServiceAccount"}
    assert accounts >= {pod["serviceAccountName"] for pod in pods("raycluster.yaml")}


def _check_policy(spec: dict) -> None:
    """As strictly as the schema of networking.k8s.io/v1 would."""
    assert set(spec) <= {"podSelector", "policyTypes", "ingress", "egress"}
    assert {key for key in ("ingress", "egress") if key in spec} <= {kind.lower() for kind in spec["policyTypes"]}
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(way, []):
            assert set(rule) <= {peers, "ports"}
            for peer in rule[peers]:
                assert len(peer) == 1
                assert set(peer) <= {"podSelector", "namespaceSelector", "ipBlock"}
            for port in rule.get("ports", []):
                assert set(port) == {"protocol", "port"}
                assert port["protocol"] in ("TCP", "UDP")
