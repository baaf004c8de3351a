"""slurm.sh, with a Slurm that is played: Ray, the sweep, the time limit and the second start are real."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machines import ROOT
from ruamel.yaml import YAML

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SRUN = """#!/usr/bin/env bash
# One host plays all nodes: leave out srun's own options, and run the command.
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then printf 'node-a\\nnode-b\\n'; else echo "$@" >> "$PLAYED/requeued"; fi
"""
SLEEPY = ["trial.steps=400", "trial.evaluate_every=10", "budget.trials=2", "search.first=[]", "resources.slots=2"]
SMALL = ["evaluation.samples=90", "evaluation.forget_samples=20", "evaluation.final_samples=null", "constraints=[]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A job of two nodes with a core each."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    path = os.pathsep.join([str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_CPUS_PER_TASK": "1"}
    own = {"PLAYED": str(tmp_path), "SFD_SWEEP_CLUSTER": str(ROOT / "cluster"), "PYTHONPATH": str(ROOT), "PATH": path}
    return {**os.environ, **slurm, **own, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}


def test_a_job_stops_before_its_time_limit_and_goes_on_when_it_is_started_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    from sfd_sweep.config.loading import dump_search_space, load_search_space

    space = load_search_space(ROOT / "search_spaces" / "digits.yaml", [*SLEEPY, *SMALL])
    (tmp_path / "sweep.yaml").write_text(dump_search_space(space))
    command = [str(ROOT / "cluster" / "slurm.sh"), str(tmp_path / "sweep.yaml"), str(tmp_path / "runs"), "by-slurm"]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        job = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
        while "at step" not in log.read_text():
            assert job.poll() is None, log.read_text()
            time.sleep(0.5)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=200) == 0, log.read_text()
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "by-slurm: 2 complete in " in again.stdout
    assert YAML(typ="safe").load(tmp_path / "runs" / "by-slurm" / "config.yaml")["name"] == "by-slurm"
