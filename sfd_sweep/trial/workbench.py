"""What a slot loads once and keeps for all its trials: teacher, start and judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sfd_sweep.config import Settings
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.diffusion.loading import load_score_model
from sfd_sweep.diffusion.score_model import ScoreModel
from sfd_sweep.distillation.conditions import (
    ClassifierOverride,
    FixedOverride,
    ForgettingTask,
    OverridePolicy,
    RandomOverride,
)
from sfd_sweep.distillation.trainer import Trainer
from sfd_sweep.evaluation.classifier import Classifier
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.storage import Folder
from sfd_sweep.trial.plan import Plan


@dataclass(frozen=True)
class Workbench:
    """Everything that trials of one sweep share.

    Attributes:
        plan: the sweep's plan.
        teacher: φ, frozen.
        start: what θ starts from.
        classifier: the judge's network, which an override may ask too.
        evaluator: the judge.
    """

    plan: Plan
    teacher: ScoreModel
    start: ScoreModel
    classifier: Classifier
    evaluator: Evaluator

    @classmethod
    def build(cls, plan: Plan, references: Folder | None, device: torch.device | str = "cpu") -> Workbench:
        """Load it all onto a device.

        Args:
            plan: what is needed.
            references: where statistics of real images are cached; None keeps them in memory.
            device: of networks and samples.

        Raises:
            UserError: weights are broken, or the judge does not fit the teacher.
        """
        evaluation = plan.space.evaluation
        teacher = load_score_model(plan.teacher, device)
        classifier = load_classifier(evaluation.classifier)
        classifier.check_images(plan.class_names, plan.teacher.sample_shape)
        classifier = classifier.for_classes(plan.class_names)
        evaluator = Evaluator(
            classifier,
            load_images(evaluation.reference),
            forget=plan.forget,
            seed=evaluation.seed,
            device=device,
            cache=references,
        )
        start = teacher if plan.start == plan.teacher else load_score_model(plan.start, device)
        return cls(plan=plan, teacher=teacher, start=start, classifier=classifier, evaluator=evaluator)

    def trainer(self, settings: Settings) -> Trainer:
        """A fresh trainer for one trial."""
        return Trainer(
            self.teacher,
            self.start,
            ForgettingTask(self.plan.retain, self.plan.forget, self._override(settings)),
            settings,
            class_names=self.plan.class_names,
            seed=self.plan.space.trial.seed,
        )

    def _override(self, settings: Settings) -> OverridePolicy:
        replacements = self.plan.replacements(settings.override)
        if replacements is not None:
            return FixedOverride(dict(zip(self.plan.forget, replacements, strict=True)))
        return (
            RandomOverride() if settings.override == "random" else ClassifierOverride(self.classifier, self.plan.forget)
        )
