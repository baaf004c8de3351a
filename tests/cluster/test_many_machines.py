"""A sweep on several machines, recorded by an MLflow server that asks for a password, with one machine lost midway."""

import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import ROOT, STUBS, TOKEN, Machines, head, kill
from mlflow_server import free_port, serving
from recorded_reports import read_reports
from stub_runtime import DEFECTIVE_MACHINE, notes

from sfd_sweep.cli import main
from sfd_sweep.tracking.reader import read_sweep
from sfd_sweep.trial.report import TrialState

pytestmark = pytest.mark.timeout(900)  # it takes half a minute where the cores are free

USER, PASSWORD = "sweeper", secrets.token_hex(16)
TRIALS = 3
MILESTONES = [2, 4]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With basic authentication, as cluster/mlflow.sh starts it; its URI without credentials."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    variables = {
        "PYTHON": sys.executable,
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_AUTH_DATABASE_URI": f"sqlite:///{folder}/users.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }
    uri = f"http://127.0.0.1:{port}"
    with serving([str(ROOT / "cluster" / "mlflow.sh")], uri, folder, variables):
        yield uri


@pytest.fixture(scope="module")
def machines(short_folder: Path) -> Iterator[Machines]:
    """A head without CPUs for trials, and two machines with one each."""
    path = os.pathsep.join([str(ROOT), str(STUBS)])
    login = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    with head(short_folder, "--num-cpus=0", PYTHONPATH=path, **TOKEN, **login) as machines:
        machines.join("--num-cpus=1")
        machines.join("--num-cpus=1")
        yield machines


@pytest.mark.slow
def test_a_sweep_loses_a_machine_and_nothing_else(
    machines: Machines, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = tmp_path / "stub"
    with machines.running(
        *(str(STUBS / "sweep_with_stub.py"), machines.address, str(tmp_path), server, "3"),
        *(f"budget.trials={TRIALS}", "trial.steps=4", "resources.slots=2", "resources.cpus_per_worker=1"),
        cwd=tmp_path,
    ) as program:
        _wait_until(lambda: len({note["pid"] for note in notes(sweep) if note["what"] == "training"}) == 2, program)
        kill(machines.processes[2])
        said, _ = program.communicate(timeout=300)
    assert program.returncode == 0, said

    done = _steps(sweep, "trained")
    assert done == {(number, to): 1 for number in range(TRIALS) for to in MILESTONES}
    again = _steps(sweep, "training") - done
    assert list(again.values()) == [1], again  # what the lost machine was at, and nothing else

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    record = read_sweep(server, "stub")
    assert record.summary.state == "complete"
    assert [trial.number for trial in record.trials] == list(range(TRIALS))
    assert {trial.state for trial in record.trials} == {TrialState.COMPLETE}
    for trial in record.trials:
        assert [report.step for report in read_reports(server, trial)] == MILESTONES
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in kept)


@pytest.mark.slow
def test_a_machine_that_kills_every_trial_costs_no_trial(tmp_path: Path, short_folder: Path) -> None:
    with head(short_folder, "--num-cpus=0", PYTHONPATH=os.pathsep.join([str(ROOT), str(STUBS)])) as machines:
        machines.join("--num-cpus=1", **{DEFECTIVE_MACHINE: "1"})
        machines.join("--num-cpus=1")
        machines.join("--num-cpus=1")
        said = machines.run(
            *(str(STUBS / "sweep_with_stub.py"), machines.address, str(tmp_path), f"sqlite:///{tmp_path}/mlflow.db"),
            *("0.3", "budget.trials=8", "resources.slots=3", "resources.cpus_per_worker=1"),
            cwd=tmp_path,
        )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "<TrialState.COMPLETE: 'complete'>: 8" in said.stdout
    crashed = [note["number"] for note in notes(tmp_path / "stub") if note["what"] == "crashing"]
    assert crashed
    assert len(crashed) == len(set(crashed)), crashed  # no trial returns to the machine that killed it


@pytest.mark.slow
def test_the_doctor_finds_nothing_wrong_where_everything_is_guarded(
    machines: Machines, server: str, tmp_path: Path
) -> None:
    space = [
        str(ROOT / "search_spaces" / "digits.yaml"),
        "--set",
        f"storage={tmp_path}",
        "--set",
        f"tracking.uri={server}",
    ]
    said = machines.run("-m", "sfd_sweep", "doctor", *space, "--address", machines.address, cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    lines = [re.split("  +", line.strip()) for line in said.stdout.splitlines()[1:]]
    assert {line[2] for line in lines} == {"ok"}, said.stdout
    there = [process for process in machines.processes if process.poll() is None]  # another test may have killed one
    assert Counter(line[0] for line in lines)["versions"] == len(there)
    assert "asks for a token" in said.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sweep_is_submitted_from_outside(
    machines: Machines, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [
        *("search.first=[]", "budget.trials=2", "trial.steps=2", "trial.evaluate_every=1", "resources.slots=1"),
        *("evaluation.samples=90", "evaluation.forget_samples=20", "evaluation.final_samples=null", "constraints=[]"),
        *("parameters.batch_size=8", "parameters.forget_batch_size=4", f"storage={tmp_path / 'runs'}"),
        *(f"tracking.uri={server}", "name=from-outside"),
    ]
    overrides = [word for override in small for word in ("--set", override)]
    space = str(ROOT / "search_spaces" / "digits.yaml")
    said = machines.run("-m", "sfd_sweep", "run", space, *overrides, "--address", machines.client, cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "from-outside: 2 complete in " in said.stdout
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert [trial.state for trial in read_sweep(server, "from-outside").trials] == [TrialState.COMPLETE] * 2

    again = machines.run("-m", "sfd_sweep", "run", space, *overrides, "--address", machines.client, cwd=tmp_path)
    assert again.returncode == 2, again.stdout + again.stderr
    assert "the sweep 'from-outside' exists already" in again.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "storage: runs is relative"),
        (["--set", "storage=/mnt/sweeps"], "tracking.uri: a database in a file"),
        (["--set", "storage=/mnt/sweeps", "--set", "tracking.uri=http://mlflow"], "no Ray cluster to join at 'ray://"),
    ],
)
def test_a_submitted_sweep_must_not_keep_its_results_in_a_folder_of_the_job(
    overrides: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    space = str(ROOT / "search_spaces" / "digits.yaml")
    with pytest.raises(SystemExit, match="2"):
        main(["run", space, *overrides, "--address", "ray://127.0.0.1:1"])
    assert capsys.readouterr().err.startswith(f"sfd-sweep: error: {message}")


def _steps(sweep: Path, what: str) -> Counter[tuple[int, int]]:
    return Counter((note["number"], note["to"]) for note in notes(sweep) if note["what"] == what)


def _wait_until(condition: Callable[[], bool], program: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 300
    while not condition():
        assert program.poll() is None, program.communicate()[0]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
