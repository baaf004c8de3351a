"""Trial execution: build a trial from its settings, train it to the next evaluation, save and resume it."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from sfd_sweep.audit.kept import Kept
from sfd_sweep.config import Override, SearchSpace, Settings
from sfd_sweep.errors import TrialFailed, UserError, first_line
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import EvaluationResult, Evaluator, grid_columns
from sfd_sweep.evaluation.factory import build_evaluator, check_concept_recognized
from sfd_sweep.method.batch import ClassifierOverride, FixedOverride, ForgettingTask, OverridePolicy, RandomOverride
from sfd_sweep.method.cost import update_cost
from sfd_sweep.method.equal_cost import EqualCostSteps
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.generator_training import Unlearning, UpdateLosses
from sfd_sweep.method.methods import unlearning
from sfd_sweep.method.rivals.replay import Models
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.metrics.definition import AUDITED, Need
from sfd_sweep.models.data_parallel import on_first_worker
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import read_state, write_state
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import (
    GENERATOR,
    GRID,
    REPORT,
    START_GRID,
    TRAINING_STATE,
    is_reported,
    read_report,
    reported_steps,
    step_folder,
)
from sfd_sweep.trial.report import Report
from sfd_sweep.trial.resolve import ResolvedSweep, resolve_sweep

if TYPE_CHECKING:
    from sfd_sweep.audit.cheap import CheapAttacks


@dataclass(frozen=True)
class TrialContext:
    """What a slot loads once for all of its trials; it implements `execution.worker.SlotRuntime`.

    Attributes:
        plan: the resolved sweep.
        teacher: φ, frozen.
        start: initial weights of θ.
        evaluator: of the sweep's generators.
        attacks: that its metrics need; None if they need none.
        override_classifier: that chooses overrides; None if no trial asks for it.
        kept: what methods prepare for all trials, such as a Fisher information.
    """

    plan: ResolvedSweep
    teacher: ScoreModel
    start: ScoreModel
    evaluator: Evaluator
    attacks: CheapAttacks | None = None
    override_classifier: Classifier | None = None
    kept: Kept = field(default_factory=Kept)

    @classmethod
    def build(cls, plan: ResolvedSweep, references: Folder | None, device: torch.device | str = "cpu") -> TrialContext:
        """Load all models onto a device.

        Args:
            plan: the resolved sweep.
            references: cache of the statistics of reference images, of the control's rates, and of what methods
                prepare; None keeps them in memory.
            device: of networks and samples.

        Raises:
            UserError: weights are broken, the classifier does not fit the teacher or does not recognize the concept, or
                judge or control cannot be used (see `CheapAttacks.build`).
        """
        teacher = load_score_model(plan.teacher, device, prompts=plan.prompts)
        evaluator = _evaluator(plan, teacher, device, references)
        start = teacher
        if plan.start != plan.teacher:
            start = load_score_model(plan.start, device, prompts=plan.prompts)
            if start.conditioning.equals(teacher.conditioning):
                start = start.with_conditioning(teacher.conditioning)
        attacks = _attacks(plan.space, evaluator, references)
        return cls(plan, teacher, start, evaluator, attacks, _override_classifier(plan, evaluator), Kept(references))

    @classmethod
    def of_worker(cls, space: SearchSpace, references: Folder) -> TrialContext:
        """Load all models onto the worker's GPU if it has one, else onto as many threads as it has cores.

        Raises:
            UserError: as `build`, or the search space does not fit its teacher.
        """
        torch.set_num_threads(max(1, int(space.resources.cpus_per_worker)))
        return cls.build(resolve_sweep(space), references, "cuda" if space.resources.gpus_per_worker else "cpu")

    def start_trial(self, settings: Settings, folder: Folder) -> TrialRunner:
        """Return a runner of the trial, which continues from its folder."""
        return TrialRunner(self, settings, folder)

    def evaluate_final(self, settings: Settings, folder: Folder, *, samples: int, forget_samples: int) -> Report:
        """Evaluate the generator that a trial has saved last, in all metrics.

        Args:
            settings: of the trial.
            folder: of the trial.
            samples: of the retained conditions.
            forget_samples: of the forgotten conditions.

        Returns:
            The report of the first worker, which evaluates while the others wait.
        """
        return on_first_worker(lambda: self._final_report(settings, folder, samples, forget_samples))

    def _final_report(self, settings: Settings, folder: Folder, samples: int, forget_samples: int) -> Report:
        interval = _Interval()
        step = reported_steps(folder)[-1]
        with interval.timed("evaluating"):
            generator = load_generator(folder, step, device=self.evaluator.device, prompts=self.plan.prompts)
            result = self.evaluate(
                generator, settings.override, samples=samples, forget_samples=forget_samples, final=True
            )
        return interval.report(step, result)

    def draw_start(self, sweep: Folder) -> None:
        """Write the start's sample grid, on the noise of the trials' grids, unless the sweep has it; one-step only."""
        on_first_worker(lambda: self._draw_start(sweep))

    def _draw_start(self, sweep: Folder) -> None:
        t_init = self.plan.start.t_init
        if t_init is None or sweep.has(START_GRID):
            return
        start = OneStepGenerator(self.start, t_init)
        sweep.write(START_GRID, self.evaluator.grid(start.generate, columns=grid_columns(start.image_shape)))

    def evaluate_swap(self, *, samples: int, forget_samples: int) -> Report:
        """Evaluate the null baseline like a trial: the start with the override's embedding for what is forgotten.

        Args:
            samples: of the retained conditions.
            forget_samples: of the forgotten conditions.
        """
        interval, conditions, override = _Interval(), self.plan.conditions, self.plan.swap_override
        t_init = self.plan.start.t_init
        assert t_init is not None, "only a one-step generator can be swapped"
        targets = self.plan.overrides[override] or (conditions.evaluated[0],) * len(conditions.forget)
        with interval.timed("evaluating"):
            start = OneStepGenerator(self.start, t_init)
            swap = swapped(start, dict(zip(conditions.forget, targets, strict=True)))
            result = self.evaluate(swap, override, samples=samples, forget_samples=forget_samples, final=False)
        return interval.report(0, result)

    def evaluate(
        self, generator: OneStepGenerator, override: Override, *, samples: int, forget_samples: int, final: bool
    ) -> EvaluationResult:
        """Evaluate a generator that was trained with this override (see `Evaluator.evaluate`)."""
        return self.evaluator.evaluate(
            generator.generate,
            override=self.plan.overrides[override],
            samples=samples,
            forget_samples=forget_samples,
            final=final,
            attacks=None if self.attacks is None else self.attacks.on(generator),
        )

    def unlearning(self, settings: Settings) -> Unlearning:
        """Return the method of a trial, before its first update."""
        conditions, space = self.plan.conditions, self.plan.space
        negative = None
        if settings.negative_prompt is not None:
            negative = conditions.names.index(" ".join(settings.negative_prompt.split()))
        method = unlearning(
            Models(self.teacher, self.start, self.kept.get),
            ForgettingTask(conditions.retain, conditions.forget, self._override(settings), negative),
            settings,
            seed=space.trial.seed,
            resources=space.resources,
        )
        step_cost = space.trial.step_cost
        return method if step_cost is None else EqualCostSteps(method, step_cost, update_cost(settings))

    def _override(self, settings: Settings) -> OverridePolicy:
        conditions, overrides = self.plan.conditions, self.plan.overrides[settings.override]
        if overrides is not None:
            return FixedOverride(dict(zip(conditions.forget, overrides, strict=True)))
        if settings.override == "random":
            return RandomOverride()
        classifier = self.override_classifier
        assert classifier is not None, "the plan names one where an override is chosen by it"
        excluded = tuple(set(range(len(conditions.names))) - set(conditions.retain))
        return ClassifierOverride(lambda x_psi: classifier(self.teacher.decode(x_psi)), excluded)


class TrialRunner:
    """Trains one trial. A trial is its settings and its seed; its folder holds its reports so far.

    On several workers each has its own `TrialRunner` of the same folder, and all receive the same calls.

    Args:
        context: what the trials of the sweep share.
        settings: of this trial.
        folder: of this trial; it may hold an earlier part of it.
    """

    def __init__(self, context: TrialContext, settings: Settings, folder: Folder) -> None:
        self._context = context
        self._settings = settings
        self._folder = folder
        self._method: Unlearning | None = None

    def advance(self, to: int) -> Report:
        """Train up to a step, evaluate and save. A step with a report is not trained again.

        Raises:
            TrialFailed: training diverged, a generated image is not finite, or the training state is lost.
        """
        if not is_reported(self._folder, to):
            self._train_and_report(to)
        return read_report(self._folder, to)

    def _train_and_report(self, to: int) -> None:
        # After a failure another attempt resumes from the last report, not from the middle of an interval.
        method, self._method = self._method or self._resume(), None
        interval = _Interval()
        with interval.timed("training"):
            while method.step < to:
                interval.add(method.update())
        on_first_worker(lambda: self._evaluate_and_save(method, interval))
        self._method = method

    def _resume(self) -> Unlearning:
        method = self._context.unlearning(self._settings)
        steps = reported_steps(self._folder)
        if steps:
            _load_state(method, step_folder(self._folder, steps[-1]))
        return method

    def _evaluate_and_save(self, method: Unlearning, interval: _Interval) -> None:
        context, space = self._context, self._context.plan.space
        generator, counts = method.ema_generator, space.evaluation
        with interval.timed("evaluating"):
            result = context.evaluate(
                generator,
                self._settings.override,
                samples=counts.samples,
                forget_samples=counts.forget_samples,
                final=False,
            )
            grid = context.evaluator.grid(generator.generate, columns=grid_columns(generator.image_shape))
        target = step_folder(self._folder, method.step)
        with interval.timed("saving"):
            target.write(GRID, grid)
            _upload_generator(generator, target)
            if method.step < space.trial.steps:
                write_state(target, TRAINING_STATE, method.state())
        target.write(REPORT, interval.report(method.step, result).to_json().encode())
        self._drop_weights_before(method.step)

    def _drop_weights_before(self, step: int) -> None:
        """Keep only the weights of the last evaluation, and the reports and grids of all."""
        for earlier in reported_steps(self._folder):
            if earlier < step:
                folder = step_folder(self._folder, earlier)
                (folder / GENERATOR).delete()
                for name in folder.names():
                    if name.startswith(TRAINING_STATE):  # or a part of one, which a killed worker has left
                        folder.remove(name)


@dataclass
class _Interval:
    """Sums between two evaluations."""

    seconds: dict[str, float] = field(default_factory=dict)
    losses: defaultdict[str, list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))
    dropped_samples: int = 0

    def add(self, update: UpdateLosses) -> None:
        """Add the losses of an update."""
        for name, loss in update.by_name.items():
            self.losses[name].append(loss)
        self.dropped_samples += update.dropped_samples

    @contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[activity] = time.perf_counter() - start

    def report(self, step: int, result: EvaluationResult) -> Report:
        """Return the report of the interval that ends at this step."""
        return Report(
            step=step,
            metrics=result.metrics,
            samples=result.samples,
            losses={name: float(torch.stack(values).mean()) for name, values in self.losses.items()},
            seconds=self.seconds,
            evaluation_seconds=result.seconds,
            dropped_samples=self.dropped_samples,
        )


def load_generator(
    folder: Folder, step: int, device: torch.device | str = "cpu", *, prompts: Sequence[str] = ()
) -> OneStepGenerator:
    """Load the generator that a trial has saved at a step.

    Args:
        folder: of the trial.
        step: of the evaluation.
        device: of the generator.
        prompts: its conditions, if they are prompts.

    Raises:
        UserError: its folder is missing or broken.
    """
    saved = step_folder(folder, step) / GENERATOR
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch).resolve()
        try:
            if not saved.files():
                raise FileNotFoundError(str(saved))
            saved.download(copy)
            return OneStepGenerator.load(copy, device, prompts=prompts)
        except FileNotFoundError as error:
            raise UserError(
                f"{saved} is missing; a trial keeps the generator of its last report alone, and once it has ended "
                "only on the front (`keep_generators`)"
            ) from error
        except UserError as error:
            raise UserError(str(error).replace(str(copy), str(saved))) from error


def _load_state(method: Unlearning, folder: Folder) -> None:
    try:
        method.load_state(read_state(folder, TRAINING_STATE))
    except (FileNotFoundError, SafetensorError, KeyError, RuntimeError) as error:
        reason = first_line(error)
        raise TrialFailed(f"cannot resume from {folder}/{TRAINING_STATE}: missing or broken ({reason})") from error


def _upload_generator(generator: OneStepGenerator, target: Folder) -> None:
    (target / GENERATOR).delete()  # a killed worker may have left a part of one
    with tempfile.TemporaryDirectory() as scratch:
        generator.save(Path(scratch) / GENERATOR)
        (target / GENERATOR).upload(Path(scratch) / GENERATOR)


def _evaluator(
    plan: ResolvedSweep, teacher: ScoreModel, device: torch.device | str, references: Folder | None
) -> Evaluator:
    space = plan.space
    evaluator = build_evaluator(
        space.evaluation,
        conditions=plan.conditions,
        image_shape=plan.teacher.image_shape,
        inception=space.wants_inception,
        relative=Need.FORGOTTEN_IMAGES in space.asked_needs,
        teacher=teacher,
        device=device,
        cache=references,
    )
    if space.task.kind == "concept":
        _check_class_names(plan, evaluator)
        check_concept_recognized(evaluator, teacher, space.evaluation, references)
    return evaluator


def _override_classifier(plan: ResolvedSweep, evaluator: Evaluator) -> Classifier | None:
    """Return the classifier that chooses overrides, if a trial may ask for it.

    Raises:
        UserError: it is missing or broken, does not fit the teacher, or is the one that evaluates.
    """
    source = plan.space.task.override_classifier
    if source is None or "classifier" not in plan.overrides:
        return None
    names = plan.conditions.names
    try:
        classifier = load_classifier(source)
        classifier.check_images(names, plan.teacher.image_shape)
    except UserError as error:
        raise UserError(f"task.override_classifier: {error}") from error
    classifier = classifier.for_classes(names)
    if classifier.content_hash() == evaluator.classifier.content_hash():
        raise UserError(
            f"task.override_classifier: {source} has the weights of evaluation.classifier, which would decide on what "
            "it chose; name another classifier"
        )
    return classifier.to(evaluator.device)


def _attacks(space: SearchSpace, evaluator: Evaluator, references: Folder | None) -> CheapAttacks | None:
    """Return the attacks that the requested metrics need; without any, nothing of them is imported or loaded."""
    needs = space.asked_needs & AUDITED
    if not needs:
        return None
    from sfd_sweep.audit.cheap import CheapAttacks

    return CheapAttacks.build(evaluator, space.audit, needs, references)


def _check_class_names(plan: ResolvedSweep, evaluator: Evaluator) -> None:
    """Check that the classifier has the classes that the requested metrics need."""
    called, classifier = evaluator.conditions.called, evaluator.classifier.name
    overrides = {index for indices in plan.overrides.values() for index in indices or ()}
    for metric, whose, enough in (
        ("retain_accuracy", "any evaluated concept", any(called[index] for index in plan.conditions.evaluated)),
        ("override_rate", "every override", all(called[index] for index in overrides)),
    ):
        if metric in plan.space.asked_metrics and not enough:
            raise UserError(
                f"{metric}: {classifier} has no class of the name of {whose}; map the name to a class in "
                "evaluation.class_of, or remove the metric"
            )
