"""Audits of a sweep's trials, in this process or on workers of a Ray cluster.

Each attack on each subject is a task of its own, and its result is in the cache once it has ended. A worker that dies
is started again, and a driver that dies is run again; both lose what they were doing, and nothing that was finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from sfd_sweep.audit.auditor import Unit
from sfd_sweep.audit.report import GENERATOR, AuditReport, Level
from sfd_sweep.config import Audit, Override, SearchSpace
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.execution.cluster import connected, is_shared, nodes, slot_count
from sfd_sweep.execution.worker import reason_of
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.trial_audit import AuditedTrial, TrialAudits

MAX_FAILURES = 3
"""How often a worker is started again, and how often a task is repeated."""

Progress = Callable[[int, int, str], None]
Task = tuple[AuditedTrial, Unit | None]
"""A trial, and the part of its audit; None: its report, once all parts are in the cache."""


@dataclass(frozen=True)
class SweepAudit:
    """What is to be audited of a sweep.

    Attributes:
        space: of the sweep.
        sweep: its folder.
        trials: by number, whose last generators are in that folder.
        settings: judge and control.
        level: of the audits.
        cache: of results of attacks; every worker must reach it.
    """

    space: SearchSpace
    sweep: Folder
    trials: tuple[AuditedTrial, ...]
    settings: Audit
    level: Level
    cache: Folder


def audit_trials(
    audit: SweepAudit,
    *,
    address: str | None = None,
    device: str | None = None,
    progress: Progress = lambda _done, _total, _what: None,
) -> Iterator[tuple[AuditedTrial, AuditReport]]:
    """Audit trials, and yield their reports in their order.

    Args:
        audit: what is to be audited.
        address: of a Ray cluster (see `cluster.connected`), on as many workers as it has room for; None: this process.
        device: of the attacks; None: as the sweep's resources say, but the CPU in a process without a GPU.
        progress: called as progress(done, total, what) after each attack.

    Raises:
        UserError: a model, the judge or a control is missing or does not fit the sweep, or no worker fits the cluster.
        SweepFailed: workers died again and again.
    """
    if device is None and address is None and not torch.cuda.is_available():
        device = "cpu"
    if device is not None:
        gpus = (audit.space.resources.gpus_per_worker or 1) if device == "cuda" else 0
        resources = audit.space.resources.model_copy(update={"gpus_per_worker": gpus})
        audit = replace(audit, space=audit.space.model_copy(update={"resources": resources}))
    if address is None:
        yield from _audit_here(audit, progress)
        return
    with connected(address):
        yield from _Pool(audit, grows=is_shared(address)).audit(progress)


def _audit_here(audit: SweepAudit, progress: Progress) -> Iterator[tuple[AuditedTrial, AuditReport]]:
    audits = TrialAudits.of_worker(audit.space, audit.sweep, audit.settings, audit.level, audit.cache)
    counts = [len(audits.units(trial.settings.override)) for trial in audit.trials]
    for index, trial in enumerate(audit.trials):
        before, name = sum(counts[:index]), _name(trial)

        def advance(done: int, _total: int, unit: Unit, before: int = before, name: str = name) -> None:
            progress(before + done, sum(counts), f"{name}, {unit}")

        yield trial, audits.report(trial, advance)


class AuditWorker:
    """An actor that audits trials. It loads what they share with its first task.

    Args:
        audit: what is to be audited.
        working_folder: the driver's, where relative paths in the search-space file start.
    """

    def __init__(self, audit: SweepAudit, working_folder: Path) -> None:
        self._audit = audit
        self._audits: TrialAudits | None = None
        if working_folder.is_dir():  # else the file must not contain relative paths
            os.chdir(working_folder)

    def units(self, override: Override) -> list[Unit]:
        """Return the parts of the audit of each trial with an override."""
        return self._loaded().units(override)

    def execute(self, task: Task) -> AuditReport | None:
        """Execute a task; executing it twice has the same effect as once."""
        trial, unit = task
        if unit is None:
            return self._loaded().report(trial)
        self._loaded().run(trial, unit)
        return None

    def _loaded(self) -> TrialAudits:
        if self._audits is None:
            audit = self._audit
            self._audits = TrialAudits.of_worker(audit.space, audit.sweep, audit.settings, audit.level, audit.cache)
        return self._audits


class _Pool:
    """The workers of an audit, one for each that the cluster has room for, up to the sweep's slots."""

    def __init__(self, audit: SweepAudit, *, grows: bool) -> None:
        self._audit = audit
        each = audit.space.resources.model_copy(update={"workers_per_slot": 1})
        self._most = slot_count(each, None, nodes(), grows=grows)
        self._actor = ray.remote(
            num_cpus=each.cpus_per_worker,
            num_gpus=each.gpus_per_worker,
            max_restarts=MAX_FAILURES,
            max_task_retries=MAX_FAILURES,
        )(AuditWorker)
        self._workers: list[Any] = [self._started()]

    def audit(self, progress: Progress) -> Iterator[tuple[AuditedTrial, AuditReport]]:
        """Make all attacks, and yield the reports."""
        trials = self._audit.trials
        try:
            overrides = dict.fromkeys(trial.settings.override for trial in trials)
            units = {override: _result(self._workers[0].units.remote(override)) for override in overrides}
            attacks = list(_tasks(trials, units))
            while len(self._workers) < min(self._most, len(attacks)):
                self._workers.append(self._started())
            for done, ((trial, unit), _) in enumerate(self._executed(attacks), start=1):
                progress(done, len(attacks), f"{_name(trial)}, {unit}")
            reports = {trial.number: report for (trial, _), report in self._executed([(each, None) for each in trials])}
        finally:
            for worker in self._workers:
                ray.kill(worker)
        for trial in trials:
            yield trial, reports[trial.number]

    def _started(self) -> Any:
        return self._actor.remote(self._audit, Path.cwd())

    def _executed(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """Execute tasks, one on each worker at a time, and yield each with its result as they end."""
        waiting = list(tasks)[::-1]
        running: dict[Any, tuple[Any, Task]] = {}
        idle = list(self._workers)
        while waiting or running:
            while waiting and idle:
                worker, task = idle.pop(), waiting.pop()
                running[worker.execute.remote(task)] = worker, task
            (call,), _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(call)
            idle.append(worker)
            yield task, _result(call)


def _tasks(trials: Sequence[AuditedTrial], units: dict[Override, list[Unit]]) -> Iterator[Task]:
    """Yield the parts of all audits; those of controls, which trials with the same override share, once."""
    seen: set[tuple[Override, Unit]] = set()
    for trial in trials:
        override = trial.settings.override
        for unit in units[override]:
            if unit.subject == GENERATOR or (override, unit) not in seen:
                seen.add((override, unit))
                yield trial, unit


def _result(call: Any) -> Any:
    """Return the result of a worker's call.

    Raises:
        UserError: the call has raised it.
        SweepFailed: the worker died again and again.
    """
    try:
        return ray.get(call)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise
    except RayActorError as error:
        raise SweepFailed(
            f"a worker of the audit died again and again: {reason_of(error)}; what is done is kept, and the same "
            "command continues"
        ) from error


def _name(trial: AuditedTrial) -> str:
    return f"trial {trial.number}"
