"""An audit of a generator from an evaluator and the settings of the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sfd_sweep.audit.attacks.base import AttackContext
from sfd_sweep.audit.auditor import Auditor
from sfd_sweep.audit.controls import check_control, swapped
from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.audit.judges import SVM, ClassifierJudge, Discernment, Judge, SupportVectorJudge, check_discernment
from sfd_sweep.audit.report import GENERATOR, NEVER_KNEW, START, SWAP
from sfd_sweep.config import Audit
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.storage.folder import Folder

ATTACKER_IMAGES, JUDGE_IMAGES = 100, 400
"""Images of each condition that an attacker has, and that a judge is fitted to, at most."""
SAMPLES = 300
"""Samples that the judge sees at a point of a curve."""


@dataclass(frozen=True)
class AuditContext:
    """Everything that audits of generators of the same conditions share.

    Attributes:
        attacks: what attacks are given.
        discernment: of the judge.
        controls: generators by the name of their part.
        sources: where the controls come from.
        missing: controls that there are not, with the reason.
    """

    attacks: AttackContext
    discernment: Discernment
    controls: Mapping[str, OneStepGenerator]
    sources: Mapping[str, str]
    missing: tuple[str, ...]

    @classmethod
    def build(
        cls, evaluator: Evaluator, settings: Audit, *, start: str | None, override: tuple[int, ...] | None
    ) -> AuditContext:
        """Load the judge and the controls.

        Args:
            evaluator: of the generators.
            settings: of the audit.
            start: source of the generator's initial weights, from which `swap` is made; None if it is unknown.
            override: index of what replaces each forgotten condition; None where any retained one may.

        Raises:
            UserError: the judge or a control is missing, does not fit the generators, or the judge cannot decide.
        """
        conditions, reference = evaluator.conditions, evaluator.reference
        forgotten = ConditionImages.of(reference, conditions.forget, JUDGE_IMAGES)
        retained = ConditionImages.of(reference, conditions.evaluated, JUDGE_IMAGES)
        judge, discernment = _judge(settings.judge, evaluator, forgotten, retained)
        check_discernment(judge, discernment)
        context = AttackContext(
            judge=judge,
            classifier=evaluator.classifier.requires_grad_(False),
            conditions=conditions,
            forgotten_images=forgotten,
            retained_images=retained,
            samples=SAMPLES,
            device=evaluator.device,
            batch_size=evaluator.batch_size,
        )
        controls, sources, missing = _controls(context, settings, start, override)
        return cls(context, discernment, controls, sources, missing)

    def auditor(self, generator: OneStepGenerator, cache: Folder | None = None) -> Auditor:
        """Return an auditor of one generator.

        Raises:
            UserError: a control does not fit the generator.
        """
        for name, control in self.controls.items():
            check_control(control, generator, self.sources[name])
        return Auditor(self.attacks, {GENERATOR: generator, **self.controls}, cache)


def _judge(
    source: str, evaluator: Evaluator, forgotten: ConditionImages, retained: ConditionImages
) -> tuple[Judge, Discernment]:
    conditions = evaluator.conditions
    if source == SVM:
        subjects = {conditions.subjects[index] for index in conditions.forget}
        return SupportVectorJudge.fitted(forgotten + retained, conditions.subjects, subjects)
    try:
        classifier = load_classifier(source)
        classifier.check_images(conditions.names, tuple(forgotten.images.shape[1:]))
        classifier = classifier.for_classes(conditions.names).to(evaluator.device)
    except UserError as error:
        raise UserError(f"audit.judge: {error}") from error
    if classifier.content_hash() == evaluator.classifier.content_hash():
        raise UserError(
            f"audit.judge: {source} is also the classifier that attacks optimize against; name another, or svm"
        )
    judge = ClassifierJudge(
        classifier, conditions.forgotten_classes, forgotten.levels, evaluator.device, evaluator.batch_size
    )
    found = [float(judge.shows_forgotten(each.images).double().mean()) for each in (forgotten, retained)]
    return judge, Discernment(*found)


def _controls(
    context: AttackContext, settings: Audit, start: str | None, override: tuple[int, ...] | None
) -> tuple[dict[str, OneStepGenerator], dict[str, str], tuple[str, ...]]:
    controls, sources, missing = {}, {}, []
    names = context.conditions.names
    if start is None:
        missing.append("the start and `swap`: the start is unknown")
    elif ModelFolder.open(start).t_init is None:
        missing.append(f"the start and `swap`: {start} is no one-step generator")
    else:
        controls[START] = OneStepGenerator.load(start, context.device, prompts=names)
        targets = override or (context.conditions.evaluated[0],) * len(context.conditions.forget)
        controls[SWAP] = swapped(controls[START], dict(zip(context.conditions.forget, targets, strict=True)))
        sources |= {START: start, SWAP: f"{start} with the override's embedding"}
    if settings.control is None:
        missing.append("the generator that never knew: audit.control names none, so excess is unknown")
    else:
        try:
            controls[NEVER_KNEW] = OneStepGenerator.load(settings.control, context.device, prompts=names)
        except UserError as error:
            raise UserError(f"audit.control: {error}") from error
        sources[NEVER_KNEW] = settings.control
    return controls, sources, tuple(missing)
