"""An audit of a generator from an evaluator and the settings of the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from sfd_sweep.audit.attacks.base import Attack, AttackContext
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.auditor import Auditor, Unit, attack_reports, run_here
from sfd_sweep.audit.controls import check_control, check_never_knew
from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.audit.judges import SVM, ClassifierJudge, Discernment, Judge, SupportVectorJudge, check_discernment
from sfd_sweep.audit.kept import Kept
from sfd_sweep.audit.levels import LEVELS, SEEDS
from sfd_sweep.audit.report import GENERATOR, NEVER_KNEW, START, SWAP, AuditReport, JudgeReport, Level
from sfd_sweep.config import Audit
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.factory import called_classes, load_classifier_for
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.conditioning import CLASSES, PROMPTS
from sfd_sweep.models.folder import ModelFolder, portable_source
from sfd_sweep.storage.folder import Folder

ATTACKER_IMAGES, JUDGE_IMAGES = 100, 400
"""Images of what is forgotten, or retained, that attackers need; and images of each class, or concept of prompts, that
a support vector machine is fitted to, at most."""
SAMPLES = 300
"""Samples that the judge sees at a point of a curve."""
RETAINED_SAMPLES = 200
"""Samples of each retained condition."""

Progress = Callable[[int, int, Unit], None]


@dataclass(frozen=True)
class AuditContext:
    """Everything that audits of generators of the same conditions share.

    Attributes:
        attacks: what attacks are given.
        discernment: of the judge.
        controls: generators by the name of their part.
        sources: where the controls come from.
        missing: controls that there are not, with the reason.
        images: where the attacker's images come from.
    """

    attacks: AttackContext
    discernment: Discernment
    controls: Mapping[str, OneStepGenerator]
    sources: Mapping[str, str]
    missing: tuple[str, ...]
    images: str

    @classmethod
    def build(
        cls,
        evaluator: Evaluator,
        settings: Audit,
        *,
        start: str | None,
        override: tuple[int, ...] | None,
        cache: Folder | None = None,
    ) -> AuditContext:
        """Load the judge and the controls.

        Args:
            evaluator: of the generators.
            settings: of the audit.
            start: source of the generator's initial weights, from which `swap` is made; None if it is unknown.
            override: index of what replaces each forgotten condition; None where any retained one may.
            cache: of the teacher's samples, and of what a text encoder decides on; None computes them.

        Raises:
            UserError: the judge or a control is missing, does not fit the generators, or the judge cannot decide.
        """
        conditions, kept = evaluator.conditions, Kept(cache)
        reference = evaluator.overrides or evaluator.reference
        forgotten = _images(evaluator, conditions.forget, settings, kept)
        retained = _images(evaluator, conditions.evaluated, settings, kept)
        evaluated = {conditions.subjects[index] for index in conditions.evaluated}
        replacing = [index for index in override or () if conditions.subjects[index] not in evaluated]
        others = (
            retained + _images(evaluator, tuple(dict.fromkeys(replacing)), settings, kept) if replacing else retained
        )
        judge, discernment = _judge(settings, evaluator, forgotten, others)
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
            kind=CLASSES if evaluator.overrides is None else PROMPTS,
            kept=kept,
        )
        controls, sources, missing = _controls(context, settings, start, override)
        images = "real images" if reference.kind is ReferenceKind.REAL else "the teacher's samples"
        return cls(context, discernment, controls, sources, missing, images)

    def audit(
        self,
        generator: OneStepGenerator,
        level: Level,
        *,
        source: str,
        cache: Folder | None = None,
        progress: Progress = lambda _done, _total, _unit: None,
    ) -> AuditReport:
        """Attack a generator and its controls in this process.

        Args:
            generator: on the device of the controls.
            level: of the audit.
            source: of the generator, for the report.
            cache: of results that other audits, or an interrupted one, have left.
            progress: called after each unit with the number of units done, their total, and the unit.

        Raises:
            UserError: a control does not fit the generator.
        """
        auditor = self.auditor(generator, cache)
        units = self.units(level)
        reports = attack_reports(units, run_here(auditor, units), lambda done, unit: progress(done, len(units), unit))
        attacks = self.attacks
        subjects = dict.fromkeys(attacks.conditions.subjects[index] for index in attacks.conditions.forget)
        sources = {GENERATOR: source, **self.sources}
        sources = {subject: portable_source(each) for subject, each in sources.items()}
        if SWAP in sources:
            sources[SWAP] += " with the override's embedding"
        return AuditReport(
            level=level,
            forgotten=tuple(subjects),
            judge=JudgeReport(
                name=_portable_name(attacks.judge.name),
                recognized=self.discernment.recognized,
                false_alarms=self.discernment.false_alarms,
            ),
            classifier=_portable_name(attacks.classifier.name),
            images=self.images,
            sources=sources,
            attacks=tuple(reports),
            retained={subject: auditor.retained_shares(subject, RETAINED_SAMPLES) for subject in auditor.subjects},
            missing=(*self.missing, *self._possible(level)[1]),
            device="cuda" if attacks.device.type == "cuda" else "cpu",
        )

    def units(self, level: Level) -> list[Unit]:
        """Return the parts of an audit, those of one attack together.

        Raises:
            UserError: there are too few images for any targeted relearning.
        """
        possible, _ = self._possible(level)
        subjects = (GENERATOR, *self.controls)
        return [Unit(attack, subject, seed) for attack in possible for subject in subjects for seed in SEEDS[level]]

    def _possible(self, level: Level) -> tuple[list[Attack], list[str]]:
        """Return the attacks of a level that can be made, and why the others cannot."""
        attacks = LEVELS[level]
        reasons = {attack: attack.needs(self.attacks) for attack in attacks}
        possible = [attack for attack, reason in reasons.items() if reason is None]
        relearning = [attack for attack in attacks if isinstance(attack, Relearning) and attack.on == "forgotten"]
        if relearning and len(self.attacks.forgotten_images) and not set(relearning) & set(possible):
            fewest = min(relearning, key=lambda attack: attack.images)
            raise UserError(f"{reasons[fewest]}; give more reference images (--reference, or evaluation.reference)")
        return possible, list(dict.fromkeys(reason for reason in reasons.values() if reason is not None))

    def auditor(self, generator: OneStepGenerator, cache: Folder | None = None) -> Auditor:
        """Return an auditor of one generator.

        Raises:
            UserError: a control does not fit the generator.
        """
        for name, control in self.controls.items():
            check_control(control, generator, self.sources[name])
            if name == NEVER_KNEW:
                check_never_knew(control, self.attacks.conditions, self.sources[name])
        return Auditor(self.attacks, {GENERATOR: generator, **self.controls}, cache)


def _images(evaluator: Evaluator, indices: tuple[int, ...], settings: Audit, kept: Kept) -> ConditionImages:
    """Return images of conditions, of prompts from the teacher: as many as the judge or the attackers need."""
    reference = evaluator.overrides or evaluator.reference
    groups = evaluator.conditions.grouped(indices)
    is_cheap = evaluator.overrides is None
    most = JUDGE_IMAGES if settings.judge == SVM or is_cheap else ceil(ATTACKER_IMAGES / len(groups))
    return ConditionImages.of_groups(reference, groups, most, batch_size=evaluator.batch_size, kept=kept)


def _judge(
    settings: Audit, evaluator: Evaluator, forgotten: ConditionImages, retained: ConditionImages
) -> tuple[Judge, Discernment]:
    conditions, source = evaluator.conditions, settings.judge
    if source == SVM:
        subjects = {conditions.subjects[index] for index in conditions.forget}
        return SupportVectorJudge.fitted(forgotten + retained, conditions.subjects, subjects)
    try:
        classifier = _judging(settings, evaluator, forgotten).to(evaluator.device)
    except UserError as error:
        raise UserError(f"audit.judge: {error}") from error
    if classifier.content_hash() == evaluator.classifier.content_hash():
        raise UserError(
            f"audit.judge: {source} is also the classifier that attacks optimize against; name another, or svm"
        )
    called = _called_by(classifier, settings, evaluator)
    judge = ClassifierJudge(
        classifier, called.forgotten_classes, forgotten.levels, evaluator.device, evaluator.batch_size
    )
    found = [float(judge.shows_forgotten(each.images).double().mean()) for each in (forgotten, retained)]
    return judge, Discernment(*found)


def _judging(settings: Audit, evaluator: Evaluator, images: ConditionImages) -> Classifier:
    """Return the classifier that `audit.judge` names; its classes are those of the conditions, if they are classes."""
    names, shape = evaluator.conditions.names, (images.images.shape[1], images.images.shape[2], images.images.shape[3])
    if evaluator.overrides is not None:
        classifier = load_classifier_for(settings.judge, evaluator.conditions, settings.concepts)
        classifier.check_shape(shape)
        return classifier
    classifier = load_classifier(settings.judge)
    classifier.check_images(names, shape)
    return classifier.for_classes(names)


def _called_by(classifier: Classifier, settings: Audit, evaluator: Evaluator) -> Conditions:
    """Return the conditions with the judge's classes: as the evaluation names them, but for `audit.class_of`."""
    conditions = evaluator.conditions
    if evaluator.overrides is None:
        return conditions
    names = evaluator.classifier.class_names
    known = {
        subject: tuple(names[called] for called in classes)
        for subject, classes in zip(conditions.subjects, conditions.called, strict=True)
        if classes and all(names[called] in classifier.class_names for called in classes)
    }
    class_of = known | settings.class_of
    return replace(conditions, called=called_classes(class_of, conditions, classifier, key="audit.class_of"))


def _controls(
    context: AttackContext, settings: Audit, start: str | None, override: tuple[int, ...] | None
) -> tuple[dict[str, OneStepGenerator], dict[str, str], tuple[str, ...]]:
    controls: dict[str, OneStepGenerator] = {}
    sources: dict[str, str] = {}
    missing = []
    names = context.conditions.names
    if start is None:
        missing.append("the start and `swap`: the start is unknown, or not on this machine (--start names it)")
    elif ModelFolder.open(start).t_init is None:
        missing.append(f"the start and `swap`: {portable_source(start)} is no one-step generator")
    else:
        controls[START] = OneStepGenerator.load(start, context.device, prompts=names)
        if controls[START].condition_names != names:
            plural = controls[START].kind.plural
            raise UserError(f"the start {start} has other {plural} than the generator; name the one that it began from")
        targets = override or (context.conditions.evaluated[0],) * len(context.conditions.forget)
        controls[SWAP] = swapped(controls[START], dict(zip(context.conditions.forget, targets, strict=True)))
        sources |= {START: start, SWAP: start}
    if settings.control is None:
        missing.append("the generator that never knew: audit.control names none, so excess is unknown")
    else:
        try:
            controls[NEVER_KNEW] = OneStepGenerator.load(settings.control, context.device, prompts=names)
        except UserError as error:
            raise UserError(f"audit.control: {error}") from error
        sources[NEVER_KNEW] = settings.control
    return controls, sources, tuple(missing)


def _portable_name(name: str) -> str:
    """Return the name of a classifier without a path of this machine."""
    prefix = next((each for each in ("the classifier clip:", "the classifier ") if name.startswith(each)), None)
    if prefix is None:
        return name
    source = name.removeprefix(prefix)
    portable = portable_source(source)
    return name if portable == source else f"the classifier in the folder {portable}"
