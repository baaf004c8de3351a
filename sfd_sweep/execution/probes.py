"""Functions that the doctor calls on the nodes of a cluster, in Ray's worker processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, chdir
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import ray

from sfd_sweep.config import SearchSpace
from sfd_sweep.execution.cluster import code_probe
from sfd_sweep.storage.folder import Folder

PACKAGES = ("ray", "torch", "diffusers")
DRIVER_FILE = "driver"
CONNECT_SECONDS = 5.0
GPU_SECONDS = 90.0
GPU_SCRIPT = """
import torch
for index in range(torch.cuda.device_count()):
    torch.ones(2, device=f"cuda:{index}").sum().item()
    print(torch.cuda.get_device_name(index))
"""


def versions_probe() -> Callable[[], dict[str, str]]:
    """Return a function that lists installed versions; it is nested, so that it travels with its own code."""
    packages, code = PACKAGES, code_probe()

    def installed() -> dict[str, str]:
        import platform
        from importlib.metadata import PackageNotFoundError, version

        found = {"python": platform.python_version()}
        for name in packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
        return found | {"sfd_sweep": code() or "missing"}

    return installed


def usable_gpus() -> list[str]:
    """Return the names of the GPUs that torch computes on.

    Raises:
        RuntimeError: it cannot; the message is the last line of its output.
    """
    environment = dict(os.environ)
    if environment.get("CUDA_VISIBLE_DEVICES") == "":  # Ray hides GPUs so from tasks that have requested none
        del environment["CUDA_VISIBLE_DEVICES"]
    command = [sys.executable, "-c", GPU_SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=GPU_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["torch died"])[-1])
    return done.stdout.splitlines()


def share(folder: Folder, token: bytes) -> bool:
    """Return whether the node reads the driver's token in the folder; if so, copy it to a file named by the node's id.

    Raises:
        OSError: the node cannot write or remove files there.
    """
    name = ray.get_runtime_context().get_node_id()
    if not folder.has(DRIVER_FILE) or folder.read(DRIVER_FILE) != token:
        return False
    folder.write(name, token)
    folder.write(f"{name}.removed", token)
    folder.remove(f"{name}.removed")
    return True


def find_models(space: SearchSpace, working_folder: Path) -> None:
    """Open what a slot opens: teacher, start, classifier, CLIP and real images.

    Args:
        working_folder: the driver's, where relative paths start.

    Raises:
        UserError: something is missing or broken there.
    """
    from sfd_sweep.evaluation.classifiers.clip import load_clip
    from sfd_sweep.evaluation.classifiers.loading import CLIP, load_classifier
    from sfd_sweep.evaluation.factory import load_classifier_for
    from sfd_sweep.models.conditioning import CLASSES
    from sfd_sweep.trial.resolve import resolve_sweep

    evaluation = space.evaluation

    with ExitStack() as stack:
        if working_folder.is_dir():
            stack.enter_context(chdir(working_folder))
        plan = resolve_sweep(space)
        if plan.teacher.kind is CLASSES:
            load_classifier(evaluation.classifier)
            if space.task.override_classifier is not None:
                load_classifier(space.task.override_classifier)
            return
        load_classifier_for(evaluation.classifier, plan.conditions, evaluation.concepts)
        if evaluation.clip is not None:
            load_clip(evaluation.clip.removeprefix(CLIP))


def dashboard_is_open(address: str) -> bool:
    """Return whether Ray's dashboard accepts requests without a token.

    Raises:
        OSError: there is no dashboard.
    """
    try:
        urlopen(f"http://{address}/api/version", timeout=CONNECT_SECONDS).close()
    except HTTPError as error:
        if error.code in (401, 403):
            return False
        raise
    return True


def client_port_is_open(port: int) -> bool:
    """Return whether a Ray Client server accepts requests on the port without a token; False if there is none."""
    import grpc
    from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType
    from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub

    ping = ClusterInfoRequest(type=ClusterInfoType.PING)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            RayletDriverStub(channel).ClusterInfo(ping, timeout=CONNECT_SECONDS)
        except grpc.RpcError:
            return False
        return True
