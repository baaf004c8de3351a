"""The files that start a cluster: each is what the program that reads it takes, and none leaves anything open."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml"]
KUBERAY = [CLUSTER / "kuberay" / "cluster.yaml", CLUSTER / "kuberay" / "job.yaml"]
SCRIPTS = sorted(CLUSTER.glob("*.sh"))


def read(path: Path) -> Any:
    yaml = YAML(typ="safe")
    return json.loads(json.dumps(yaml.load(path)))  # anchors and merges resolved, as their readers see it


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program that a test dependency has brought."""
    return subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments], capture_output=True, text=True, check=False
    )


# Ray's launcher.


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_ray_takes_its_launcher_files(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads(files("ray").joinpath("autoscaler/ray-schema.json").read_text())
    jsonschema.validate(read(path), schema)
    validate_config(prepare_config(read(path)))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_a_launched_cluster_is_private_and_asks_for_a_token(path: Path) -> None:
    config = read(path)
    assert config["provider"]["use_internal_ips"]
    starts = " ".join([*config["head_start_ray_commands"], *config["worker_start_ray_commands"]])
    assert starts.count("RAY_AUTH_MODE=token") == starts.count("ray start") == 2
    assert "--dashboard-host=127.0.0.1" in starts
    assert "0.0.0.0" not in starts
    assert any("auth_token" in command and "secret" in command for command in config["setup_commands"])


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_gpus_come_and_go_on_spot_and_the_head_holds_none(path: Path) -> None:
    config = read(path)
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    worker = kinds["gpu"]
    assert (worker["min_workers"], worker["max_workers"]) == (0, config["max_workers"])
    assert worker["resources"]["GPU"] == 1
    assert "spot" in json.dumps(worker["node_config"]).lower()
    assert "spot" not in json.dumps(kinds["head"]["node_config"]).lower()
    assert config["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_machines_are_installed_from_the_constraints(path: Path) -> None:
    installing = [line for line in read(path)["setup_commands"] if "pip install" in line]
    assert installing
    assert all("--constraint ~/sfd-sweep/.ci/constraints.txt" in line for line in installing)


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_storage_is_mounted_once_its_program_is_installed(path: Path) -> None:
    commands = read(path)["setup_commands"]
    (installed,) = [place for place, line in enumerate(commands) if "apt-get install" in line and "nfs-common" in line]
    (mounted,) = [place for place, line in enumerate(commands) if "mount -t nfs" in line]
    assert installed < mounted


# Kubernetes. No package carries the schemas of KubeRay's own kinds: their fields are listed here, from its sources
# (ray-operator/apis/ray/v1) and, for authOptions, its guide; the pods in them are held against Kubernetes' own schema.

CLUSTER_FIELDS = {
    *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"),
    *("headServiceAnnotations", "suspend"),
}
AUTOSCALER_FIELDS = {
    *("resources", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts", "securityContext"),
    *("idleTimeoutSeconds", "upscalingMode"),
}
HEAD_FIELDS = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKER_FIELDS = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams"),
    *("template", "scaleStrategy"),
}
JOB_FIELDS = {
    *("entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
    *("submitterPodTemplate", "rayClusterSpec", "activeDeadlineSeconds", "metadata", "clusterSelector", "managedBy"),
    *("submitterConfig", "deletionStrategy", "runtimeEnvYAML", "jobId", "entrypointResources", "entrypointNumCpus"),
    *("entrypointNumGpus", "suspend"),
}


def cluster_spec(path: Path) -> Any:
    spec = read(path)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(path: Path) -> Iterator[Any]:
    """The specifications of all pods that a file describes."""
    document, cluster = read(path), cluster_spec(path)
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    if "submitterPodTemplate" in document["spec"]:
        templates.append(document["spec"]["submitterPodTemplate"])
    for template in templates:
        yield template["spec"]


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_kuberay_knows_every_field(path: Path) -> None:
    document, cluster = read(path), cluster_spec(path)
    assert document["apiVersion"] == "ray.io/v1"
    assert document["kind"] in ("RayCluster", "RayJob")
    if document["kind"] == "RayJob":
        assert set(document["spec"]) <= JOB_FIELDS
    assert set(cluster) <= CLUSTER_FIELDS
    assert set(cluster["autoscalerOptions"]) <= AUTOSCALER_FIELDS
    assert set(cluster["headGroupSpec"]) <= HEAD_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= set(group) <= WORKER_FIELDS
    parameters = [part["rayStartParams"] for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert all(isinstance(value, str) for part in parameters for value in part.values())


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_kubernetes_takes_every_pod(path: Path) -> None:
    for pod in pods(path):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}
        kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_takes_the_network_policy() -> None:
    policy = read(CLUSTER / "kuberay" / "network.yaml")
    kubernetes_validate.validate(policy, kubernetes_validate.latest_version(), strict=True)
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_pods_run_as_a_plain_user_without_privileges(path: Path) -> None:
    for pod in pods(path):
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_ray_on_kubernetes_asks_for_a_token_and_keeps_within_the_cluster(path: Path) -> None:
    cluster = cluster_spec(path)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["rayVersion"] == ray.__version__


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_passwords_come_from_secrets_and_only_the_driver_has_them(path: Path) -> None:
    cluster = cluster_spec(path)
    head, *_ = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    secret = {part["name"]: part["valueFrom"]["secretKeyRef"] for part in head["env"] if "PASSWORD" in part["name"]}
    assert secret == {"MLFLOW_TRACKING_PASSWORD": {"name": "mlflow", "key": "password"}}
    assert "secretKeyRef" not in json.dumps(cluster["workerGroupSpecs"])


# Docker.


def test_docker_compose_takes_the_compose_file() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(CLUSTER / "compose.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_services_listen_on_the_loopback_address_and_have_no_password_of_their_own() -> None:
    services = read(CLUSTER / "compose.yaml")["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    secret = {
        name: value
        for service in services.values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|ACCESS_KEY|DATABASE_URI|BACKEND_STORE_URI", name)
    }
    assert len(secret) >= 8
    assert all(re.search(r"\$\{\w+:\?", value) for value in secret.values()), secret


def test_services_run_as_plain_users_without_privileges() -> None:
    for name, service in read(CLUSTER / "compose.yaml")["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "build" in service or service["user"] not in ("root", "0"), name
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]


def test_hadolint_takes_the_dockerfile() -> None:
    done = tool("hadolint", str(CLUSTER / "Dockerfile"))
    assert done.returncode == 0, done.stdout


def test_images_end_as_a_plain_user_and_are_pinned() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.M)[2:]
    assert len(stages) == 2
    for stage in stages:
        assert re.findall(r"^USER (\S+)", stage, re.M)[-1] == "1000"
    installs = re.findall(r"pip install .*", text)
    assert all("constraint" in line or "--no-deps" in line for line in installs)


# Scripts.


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    done = tool("shellcheck", "--enable=all", "--exclude=SC2250,SC2310,SC2312", str(path))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_without_what_it_needs_says_so_and_does_nothing(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(path)], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_mlflow_server_without_a_password_does_not_start() -> None:
    given = {"MLFLOW_BACKEND_STORE_URI": "x", "MLFLOW_AUTH_DATABASE_URI": "x", "MLFLOW_ARTIFACTS_DESTINATION": "x"}
    done = subprocess.run(
        [str(CLUSTER / "mlflow.sh")],
        env={"PATH": "/usr/bin:/bin", "MLFLOW_AUTH_ADMIN_USERNAME": "me", **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" in done.stderr
