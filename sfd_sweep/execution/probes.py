"""What a machine of a cluster is asked before a long run. Each function runs there, in a worker process of Ray."""

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
from sfd_sweep.execution.code_shipping import code_probe
from sfd_sweep.storage.folder import Folder

PACKAGES = ("ray", "torch", "diffusers")
DRIVERS_WORD = "driver"
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 90.0
LOOK_AT_GPUS = """
import torch
for index in range(torch.cuda.device_count()):
    torch.ones(2, device=f"cuda:{index}").sum().item()
    print(torch.cuda.get_device_name(index))
"""


def versions_probe() -> Callable[[], dict[str, str]]:
    """A function that says what is installed; it travels with its own code, so that any machine answers."""
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
        found["sfd_sweep"] = code() or "missing"
        return found

    return installed


def usable_gpus() -> list[str]:
    """The names of the GPUs that torch computes on.

    Raises:
        RuntimeError: it cannot; the message is the last line that it has said.
    """
    environment = dict(os.environ)
    if environment.get("CUDA_VISIBLE_DEVICES") == "":  # Ray's way to hide them from tasks that have asked for none
        del environment["CUDA_VISIBLE_DEVICES"]
    command = [sys.executable, "-c", LOOK_AT_GPUS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LOOK_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["torch died"])[-1])
    return done.stdout.splitlines()


def share(folder: Folder, word: bytes) -> bool:
    """Whether the machine sees the word that the driver has written into the folder.

    If so, it writes it down too, under its own id, and writes and removes another file.

    Raises:
        OSError: it cannot write or remove there.
    """
    name = ray.get_runtime_context().get_node_id()
    if not folder.has(DRIVERS_WORD) or folder.read(DRIVERS_WORD) != word:
        return False
    folder.write(name, word)
    folder.write(f"{name}.removed", word)
    folder.remove(f"{name}.removed")
    return True


def find_models(space: SearchSpace, working_folder: Path) -> None:
    """Open what a slot will open: teacher, start, judge and real images.

    Args:
        working_folder: the driver's, which relative paths start from.

    Raises:
        UserError: something is missing or broken there.
    """
    from sfd_sweep.evaluation.classifiers.loading import load_classifier
    from sfd_sweep.trial.resolve import resolve_sweep

    with ExitStack() as stack:
        if working_folder.is_dir():
            stack.enter_context(chdir(working_folder))
        resolve_sweep(space)
        load_classifier(space.evaluation.classifier)


def dashboard_answers(address: str) -> bool:
    """Whether Ray's dashboard obeys without a token; False if it asks for one.

    Raises:
        OSError: there is no dashboard.
    """
    try:
        urlopen(f"http://{address}/api/version", timeout=ANSWER_SECONDS).close()
    except HTTPError as error:
        if error.code in (401, 403):
            return False
        raise
    return True


def client_port_answers(port: int) -> bool:
    """Whether a Ray Client server on the port obeys without a token; False if it asks for one, or if there is none."""
    import grpc
    from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType
    from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            RayletDriverStub(channel).ClusterInfo(ClusterInfoRequest(type=ClusterInfoType.PING), timeout=ANSWER_SECONDS)
        except grpc.RpcError:
            return False
        return True
