"""What a slot loads once and keeps for all its trials: teacher, start and judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sfd_sweep.config import Settings
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.factory import build_evaluator, check_concept_is_seen
from sfd_sweep.method.batch import (
    ClassifierOverride,
    FixedOverride,
    ForgettingTask,
    OverridePolicy,
    RandomOverride,
)
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import ResolvedSweep


@dataclass(frozen=True)
class TrialContext:
    """Everything that trials of one sweep share.

    Attributes:
        plan: the sweep's plan.
        teacher: φ, frozen.
        start: what θ starts from.
        evaluator: the judge.
    """

    plan: ResolvedSweep
    teacher: ScoreModel
    start: ScoreModel
    evaluator: Evaluator

    @classmethod
    def build(cls, plan: ResolvedSweep, references: Folder | None, device: torch.device | str = "cpu") -> TrialContext:
        """Load it all onto a device.

        Args:
            plan: what is needed.
            references: where statistics of real images are cached; None keeps them in memory.
            device: of networks and samples.

        Raises:
            UserError: weights are broken, the judge does not fit the teacher, or does not see what is to be forgotten.
        """
        teacher = load_score_model(plan.teacher, device, prompts=plan.prompts)
        evaluator = _evaluator(plan, teacher, device, references)
        start = teacher
        if plan.start != plan.teacher:
            start = load_score_model(plan.start, device, prompts=plan.prompts)
        return cls(plan=plan, teacher=teacher, start=start, evaluator=evaluator)

    def trainer(self, settings: Settings) -> Trainer:
        """A fresh trainer for one trial."""
        conditions = self.plan.conditions
        return Trainer(
            self.teacher,
            self.start,
            ForgettingTask(conditions.retain, conditions.forget, self._override(settings), self._negative(settings)),
            settings,
            class_names=conditions.names,
            seed=self.plan.space.trial.seed,
            resources=self.plan.space.resources,
        )

    def _override(self, settings: Settings) -> OverridePolicy:
        forget = self.plan.conditions.forget
        replacements = self.plan.replacements[settings.override]
        if replacements is not None:
            return FixedOverride(dict(zip(forget, replacements, strict=True)))
        if settings.override == "random":
            return RandomOverride()
        judge = self.evaluator.classifier
        return ClassifierOverride(lambda x_psi: judge(self.teacher.decode(x_psi)), forget)

    def _negative(self, settings: Settings) -> int | None:
        text = settings.negative_prompt
        return None if text is None else self.plan.conditions.names.index(" ".join(text.split()))


def _evaluator(
    plan: ResolvedSweep, teacher: ScoreModel, device: torch.device | str, references: Folder | None
) -> Evaluator:
    space = plan.space
    evaluator = build_evaluator(
        space.evaluation,
        conditions=plan.conditions,
        image_shape=plan.teacher.image_shape,
        inception=space.wants_inception,
        teacher=teacher,
        device=device,
        cache=references,
    )
    if space.task.kind == "concept":
        _check_words(plan, evaluator)
        check_concept_is_seen(evaluator, teacher, space.evaluation, references)
    return evaluator


def _check_words(plan: ResolvedSweep, evaluator: Evaluator) -> None:
    """Whether the judge has words for what the metrics that are asked for need it to call by name."""
    called, judge = evaluator.conditions.called, evaluator.classifier.name
    replacing = {index for indices in plan.replacements.values() for index in indices or ()}
    remedy = "say in evaluation.class_of what it calls it, or leave the metric out"
    for metric, enough in (
        ("retain_accuracy", any(called[index] for index in plan.conditions.judged)),
        ("override_rate", all(called[index] for index in replacing)),
    ):
        if metric in plan.space.asked_metrics and not enough:
            raise UserError(f"{metric}: {judge} has no class for what it should call by its name; {remedy}")
