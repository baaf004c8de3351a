"""The doctor on a faulty cluster: open to all, and with a machine of other code, no GPUs and another disk."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import NO_TOKEN, ROOT, Machines, head

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]

CLIENT = "Ray Client"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all machines but the sick one mount: a teacher is in it."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(ROOT / "sfd_sweep" / "assets" / "digits" / "teacher", folder / "teacher")
    return folder


@pytest.fixture(scope="module")
def machines(short_folder: Path, shared: Path) -> Iterator[Machines]:
    """A head, and a machine that has an empty folder where the shared one is, another version of this package, and two
    GPUs in name."""
    other = short_folder / "other"
    shutil.copytree(ROOT / "sfd_sweep", other / "sfd_sweep", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "sfd_sweep" / "errors.py").open("a") as stream:
        stream.write("# another version\n")
    without_disk = [*ALONE, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(shared)]
    if subprocess.run([*without_disk, "true"], check=False).returncode:
        pytest.skip("this host does not let users mount file systems")
    with head(short_folder, "--num-cpus=1", **NO_TOKEN) as machines:
        variables = {"PYTHONPATH": str(other), "CUDA_VISIBLE_DEVICES": "0,1"}
        machines.join("--num-cpus=1", "--num-gpus=2", wrapped=without_disk, **variables)
        yield machines


def test_the_doctor_names_every_fault_and_what_to_do(machines: Machines, shared: Path, tmp_path: Path) -> None:
    overrides = [f"storage={shared}/runs", f"task.teacher={shared}/teacher", "tracking.uri=http://127.0.0.1:1"]
    options = [word for override in overrides for word in ("--set", override)]
    said = machines.run(
        *("-m", "sfd_sweep", "doctor", str(ROOT / "search_spaces" / "digits.yaml"), *options),
        *("--address", machines.address),
        cwd=tmp_path,
    )
    assert said.returncode == 2, said.stdout + said.stderr
    assert re.search(r"^sfd-sweep: error: 4 of \d+ checks failed", said.stderr, re.M), said.stdout + said.stderr
    whole = re.sub(r"\s*\n  +", " ", said.stdout)  # long texts are wrapped
    found = [tuple(re.split("  +", line.strip())) for line in whole.splitlines()[1:]]
    sick = {check: (status, text) for check, place, status, text in found if "head" not in place}
    well = {check: status for check, place, status, _ in found if "head" in place}
    assert well == {"versions": "ok", "dashboard": "warning", CLIENT: well[CLIENT], "models": "ok", "storage": "ok"}
    assert sick["code"][0] == "warning"  # the sweep brings its own
    assert re.search(
        r"sent .*sfd_sweep \(\d\.\d MB, code \w{8}\) .* 1 of its 2 machines had other code", sick["code"][1]
    )
    assert sick["versions"][0] == "ok"
    assert sick["GPUs"] == (
        "fault",
        "Ray offers 2, but torch finds 0; start Ray there with --num-gpus 0, or repair the driver",
    )
    assert sick["storage"][0] == "fault"
    assert "another folder there than here" in sick["storage"][1]
    assert sick["models"][0] == "fault"
    assert f"{shared}/teacher" in sick["models"][1]
    assert sick["tracking"][0] == "fault"
    assert [path.name for path in shared.iterdir()] == ["teacher"]
