"""KubeRay's manifests: its own schemas take them, where they are at hand, and what they name exists."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from ray.autoscaler._private.kuberay.run_autoscaler import run_kuberay_autoscaler

from jobs.cli import app

ROOT = Path(__file__).resolve().parents[2]
KUBERAY = ROOT / "deploy" / "kuberay"
SCHEMAS = Path(os.environ.get("SSIG_KUBERAY_SCHEMAS", ROOT.parent / "shared" / "deploy"))
NAMES = ("rayjob", "raycluster")

Manifest = dict[str, Any]


def read(name: str) -> Manifest:
    manifest: Manifest = yaml.safe_load((KUBERAY / f"{name}.yaml").read_text(encoding="utf-8"))
    return manifest


def cluster(name: str) -> Manifest:
    """The part of a manifest that describes the cluster."""
    spec: Manifest = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name: str) -> list[Manifest]:
    """What the pods of the head and of the workers are made from."""
    described = cluster(name)
    groups = [described["headGroupSpec"], *described["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def violations(name: str, manifest: Manifest) -> list[str]:
    schema = SCHEMAS / f"{name}-v1.schema.json"
    if not schema.exists():
        pytest.skip(f"no {schema.name} in {SCHEMAS} (SSIG_KUBERAY_SCHEMAS)")
    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    return [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(manifest)]


def test_kuberays_own_schema_takes_it(name: str) -> None:
    assert violations(name, read(name)) == []


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (lambda manifest: manifest["spec"].update(shutdownAfterJobFinish=True), "shutdownAfterJobFinish"),
        (lambda manifest: manifest["spec"].update(backoffLimit="3"), "backoffLimit"),
        (lambda manifest: manifest["spec"]["rayClusterSpec"].pop("headGroupSpec"), "headGroupSpec"),
        (lambda manifest: manifest["spec"]["rayClusterSpec"].update(authOptions={"mode": "tokens"}), "authOptions"),
        (
            lambda manifest: manifest["spec"]["rayClusterSpec"]["headGroupSpec"].update(rayStartParams={"port": 1}),
            "port",
        ),
    ],
)
def test_a_planted_fault_is_found(break_it: Callable[[Manifest], None], word: str) -> None:
    manifest = copy.deepcopy(read("rayjob"))
    break_it(manifest)
    assert any(word in violation for violation in violations("rayjob", manifest))


def test_the_cluster_asks_for_a_token_and_grows(name: str) -> None:
    described = cluster(name)
    assert described["authOptions"] == {"mode": "token"}
    assert described["enableInTreeAutoscaling"] is True
    assert described["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert callable(run_kuberay_autoscaler)  # in KubeRay's sidecar, which has the head's image


def test_the_ray_of_the_manifest_is_the_images(name: str) -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ray==(.+)$", constraints, re.MULTILINE)
    assert cluster(name)["rayVersion"] == version


def test_pods_share_memory_run_as_a_user_and_have_what_they_ask_for(name: str) -> None:
    for pod in pods(name):
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert mounts.keys() - {"/dev/shm"} <= {"/etc/ssig"}
        assert set(mounts.values()) == volumes.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        # Guaranteed pods: none is ended for what another one takes.
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_a_pod_lives_long_enough_to_finish_what_is_in_flight(name: str) -> None:
    for pod in pods(name):
        seconds = [int(one["value"]) for one in pod["containers"][0]["env"] if one["name"].startswith("RAY_")]
        assert len(seconds) == 1
        assert pod["terminationGracePeriodSeconds"] >= seconds[0] + 30


def test_workers_may_run_where_gpus_are_kept_for_those_who_ask(name: str) -> None:
    head, worker = pods(name)
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" in [toleration["key"] for toleration in worker["tolerations"]]


def test_a_failed_try_is_followed_by_another_which_is_not_so_for_failed_samples() -> None:
    spec = read("rayjob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    program, command, job = spec["entrypoint"].split()
    assert (ROOT / "deploy" / program).exists()  # exit code 3 becomes 0 there: test_ssig_job.py
    assert command in typer.main.get_command(app).commands
    folder, file = job.rsplit("/", 1)
    (head, _) = pods("rayjob")
    (mount,) = [mount for mount in head["containers"][0]["volumeMounts"] if mount["mountPath"] == folder]
    (volume,) = [volume for volume in head["volumes"] if volume["name"] == mount["name"]]
    text = (KUBERAY / "rayjob.yaml").read_text(encoding="utf-8")
    assert f"kubectl create configmap {volume['configMap']['name']} --from-file={file}\n" in text


def test_both_manifests_describe_the_same_cluster() -> None:
    job, stays = cluster("rayjob"), cluster("raycluster")
    head = job["headGroupSpec"]["template"]["spec"]
    head["volumes"] = [volume for volume in head["volumes"] if volume["name"] != "job"]
    mounts = head["containers"][0]["volumeMounts"]
    head["containers"][0]["volumeMounts"] = [mount for mount in mounts if mount["name"] != "job"]
    for described in (job, stays):
        for group in described["workerGroupSpecs"]:
            group["replicas"] = group["minReplicas"] = None
    assert job == stays


def test_it_holds_no_secret(name: str) -> None:
    assert not re.search(r"AKIA\w{12}|PRIVATE KEY|password", (KUBERAY / f"{name}.yaml").read_text(encoding="utf-8"))
