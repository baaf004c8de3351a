"""Audits of a sweep's trials on Ray workers: the same results as in one process, also when workers are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
import torch
from drivers import actors, wait_until
from recorded_trials import FRONT, PRUNED, Sweep, record_sweep

from sfd_sweep.audit.report import AuditReport
from sfd_sweep.errors import UserError
from sfd_sweep.execution.auditing import SweepAudit, audit_trials
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.trial_audit import AuditedTrial

WORKER = "AuditWorker"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return record_sweep(folder)


def audit_of(sweep: Sweep, cache: Path, *numbers: int, **settings: str) -> SweepAudit:
    record = sweep.results.record
    resources = record.space.resources.model_copy(update={"cpus_per_worker": 0.5, "slots": 2})
    space = record.space.model_copy(update={"resources": resources})
    return SweepAudit(
        space=space,
        sweep=Folder.open(record.summary.storage),
        trials=tuple(AuditedTrial(number, record.trials[number].settings) for number in numbers),
        settings=space.audit.model_copy(update=settings),
        level="quick",
        cache=Folder.open(cache),
    )


def curves(report: AuditReport) -> dict[tuple[str, str], object]:
    return {(attack.name, subject): attack.curve(subject) for attack in report.attacks for subject in report.subjects}


@pytest.fixture(scope="module")
def here(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> dict[int, AuditReport]:
    """The audits of two trials in this process."""
    cache = tmp_path_factory.mktemp("cache")
    found = {trial.number: report for trial, report in audit_trials(audit_of(sweep, cache, FRONT, PRUNED))}
    assert len(list(cache.glob("*.json"))) == 4 * 5  # attacks on two generators and three controls that they share
    return found


def test_a_trials_report_names_the_trial_and_its_controls(here):
    assert here[FRONT].sources["generator"] == "trial 0 of small"
    assert here[FRONT].subjects == ("generator", "never_knew", "swap", "start")


@pytest.mark.slow
def test_workers_find_what_one_process_does_though_one_is_killed(cluster, sweep, here, tmp_path):
    seen: list[tuple[int, int]] = []
    killed: list[int] = []

    def kill() -> None:
        wait_until(lambda: len(list(tmp_path.glob("*.json"))) >= 2 and actors(WORKER), "the first results")
        pid = actors(WORKER)[0]
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    audit = audit_of(sweep, tmp_path, FRONT, PRUNED)
    found = dict(audit_trials(audit, address="local", progress=lambda done, total, _: seen.append((done, total))))
    thread.join()
    assert killed
    assert {trial.number: curves(report) for trial, report in found.items()} == {
        number: curves(report) for number, report in here.items()
    }
    assert seen == [(done, 20) for done in range(1, 21)]
    wait_until(lambda: not actors(WORKER), "the workers end")


@pytest.mark.slow
def test_what_workers_have_found_is_not_made_again(cluster, sweep, here, tmp_path):
    list(audit_trials(audit_of(sweep, tmp_path, FRONT), address="local"))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    began = time.monotonic()
    list(audit_trials(audit_of(sweep, tmp_path, FRONT)))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("address", [None, "local"])
def test_a_control_that_does_not_fit_is_one_line_also_from_a_worker(cluster, sweep, tmp_path, address):
    audit = audit_of(sweep, tmp_path, FRONT, control="builtin:digits-distilled")
    with pytest.raises(UserError, match=r"audit\.control: .* is not known to have been trained without '0'") as raised:
        list(audit_trials(audit, address=address))
    assert "\n" not in str(raised.value)
    assert ray.is_initialized()


def test_a_trial_without_weights_is_told(sweep, tmp_path):
    audit = audit_of(sweep, tmp_path, FRONT)
    lost = audit.trials[0].__class__(3, audit.trials[0].settings)
    with pytest.raises(UserError, match="has no report of trial 3, so it has no generator to audit"):
        list(audit_trials(SweepAudit(**{**vars(audit), "trials": (lost,)})))


@pytest.mark.slow
def test_a_killed_driver_loses_only_what_was_running(cluster, sweep, here, tmp_path):
    """The command itself, on the test's cluster; and then again."""
    cache = tmp_path / "cache"
    command = [
        sys.executable,
        "-m",
        "sfd_sweep",
        "audit",
        "small",
        "--trial",
        "0",
        "--uri",
        sweep.uri,
        "--cache",
        str(cache),
    ]
    command += ["--address", ray.get_runtime_context().gcs_address]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: cache.is_dir() and len(list(cache.glob("*.json"))) >= 2, "the first results")
    first.kill()
    first.wait()
    wait_until(lambda: not actors(WORKER), "the workers of the killed driver end")
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*.json")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "Worst excess over a generator that never knew: " in done.stdout
    folder = Path(sweep.folder) / "runs" / "small" / "trials" / "0000" / "audits"
    recorded = AuditReport.parse((folder / "audit-quick.json").read_bytes(), "it")
    assert curves(recorded) == curves(here[FRONT])
    assert (folder / "audit-quick.png").is_file()
