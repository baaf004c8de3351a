"""Audits of a sweep's trials: what they share is loaded once."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfd_sweep.audit.auditor import Auditor, Unit
from sfd_sweep.audit.building import AuditContext, Progress
from sfd_sweep.audit.report import AuditReport, Level
from sfd_sweep.config import REFERENCES, Audit, Override, SearchSpace, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import reported_steps, trial_folder
from sfd_sweep.trial.resolve import start_source
from sfd_sweep.trial.runner import TrialContext, load_generator


@dataclass(frozen=True)
class AuditedTrial:
    """A trial whose generator is audited."""

    number: int
    settings: Settings


@dataclass
class TrialAudits:
    """Audits of the trials of one sweep at one level.

    The controls depend on what replaces the forgotten conditions, which the settings of a trial name.

    Args:
        context: of the sweep's trials.
        sweep: the sweep's folder.
        settings: judge and control.
        level: of the audits.
        cache: of results of attacks.
    """

    context: TrialContext
    sweep: Folder
    settings: Audit
    level: Level
    cache: Folder
    _contexts: dict[Override, AuditContext] = field(default_factory=dict)
    _present: tuple[AuditedTrial, OneStepGenerator, Auditor] | None = None

    @classmethod
    def of_worker(cls, space: SearchSpace, sweep: Folder, settings: Audit, level: Level, cache: Folder) -> TrialAudits:
        """Load all models onto the worker's GPU if it has one, else onto as many threads as it has cores.

        Raises:
            UserError: as `TrialContext.of_worker`.
        """
        return cls(TrialContext.of_worker(space, sweep.parent / REFERENCES), sweep, settings, level, cache)

    def units(self, override: Override) -> list[Unit]:
        """Return the parts of the audit of each trial with an override.

        Raises:
            UserError: as `AuditContext.build`.
        """
        return self._audit_context(override).units(self.level)

    def run(self, trial: AuditedTrial, unit: Unit) -> None:
        """Make one attack, and leave its result in the cache.

        Raises:
            UserError: the trial has no generator in the storage, or a control does not fit it.
        """
        self._loaded(trial)[1].run(unit)

    def report(self, trial: AuditedTrial, progress: Progress = lambda _done, _total, _unit: None) -> AuditReport:
        """Return the audit of a trial; attacks whose results are in the cache are not made again.

        Raises:
            UserError: as `run`.
        """
        generator, _ = self._loaded(trial)
        source = f"trial {trial.number} of {self.context.plan.space.name}"
        context = self._audit_context(trial.settings.override)
        return context.audit(generator, self.level, source=source, cache=self.cache, progress=progress)

    def _audit_context(self, override: Override) -> AuditContext:
        if override not in self._contexts:
            plan = self.context.plan
            self._contexts[override] = AuditContext.build(
                self.context.evaluator,
                self.settings,
                start=start_source(plan.space.task),
                override=plan.overrides[override],
                cache=self.cache,
            )
        return self._contexts[override]

    def _loaded(self, trial: AuditedTrial) -> tuple[OneStepGenerator, Auditor]:
        """Return a trial's last generator and its auditor; those of one trial are in memory at a time."""
        if self._present is None or self._present[0] != trial:
            self._present = None
            folder = trial_folder(self.sweep, trial.number)
            steps = reported_steps(folder)
            if not steps:
                raise UserError(f"{folder} has no report of trial {trial.number}, so it has no generator to audit")
            device, prompts = self.context.evaluator.device, self.context.plan.prompts
            generator = load_generator(folder, steps[-1], device, prompts=prompts)
            auditor = self._audit_context(trial.settings.override).auditor(generator, self.cache)
            self._present = (trial, generator, auditor)
        return self._present[1:]
