"""One trial: advanced from evaluation to evaluation, saved at each, resumed from the last."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError

from sfd_sweep.config import Settings
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.evaluation.evaluator import EvaluationResult, grid_columns
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.data_parallel import on_first_worker
from sfd_sweep.models.training_state import read_state, write_state
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.context import TrialContext
from sfd_sweep.trial.files import (
    GENERATOR,
    GRID,
    REPORT,
    TRAINING_STATE,
    is_reported,
    read_report,
    reported_steps,
    step_folder,
)
from sfd_sweep.trial.report import Report


@dataclass
class _Interval:
    """What is counted between two evaluations."""

    seconds: dict[str, float] = field(default_factory=dict)
    fake_score_losses: list[torch.Tensor] = field(default_factory=list)
    generator_losses: list[torch.Tensor] = field(default_factory=list)
    dropped_samples: int = 0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the seconds of the block."""
        start = time.perf_counter()
        yield
        self.seconds[what] = time.perf_counter() - start

    def report(self, step: int, judgement: EvaluationResult) -> Report:
        """The report of the interval that ends with this step."""
        losses = {"fake_score": self.fake_score_losses, "generator": self.generator_losses}
        return Report(
            step=step,
            metrics=judgement.metrics,
            samples=judgement.samples,
            losses={name: float(torch.stack(values).mean()) for name, values in losses.items()},
            seconds=self.seconds,
            evaluation_seconds=judgement.seconds,
            dropped_samples=self.dropped_samples,
        )


class Trial:
    """A trial is its settings and its seed; its folder holds what it has reported so far.

    On several workers each has its own `Trial` of the same folder, and calls come on all of them alike.

    Args:
        context: what the trials of the sweep share.
        settings: of this trial.
        folder: of this trial; it may hold an earlier part of it.
    """

    def __init__(self, context: TrialContext, settings: Settings, folder: Folder) -> None:
        self._context = context
        self._settings = settings
        self._folder = folder
        self._trainer: Trainer | None = None

    def advance(self, to: int) -> Report:
        """Train up to a step, evaluate and save. A step that was reported before is not trained again.

        Raises:
            TrialFailed: training diverged, the generator makes images that are not finite, or the training state that
                would be gone on from is lost.
        """
        if not is_reported(self._folder, to):
            self._train_and_report(to)
        return read_report(self._folder, to)

    def _train_and_report(self, to: int) -> None:
        # Whatever fails on the way, another attempt goes on from the last report, not from a half-done interval.
        trainer, self._trainer = self._trainer or self._resume(), None
        interval = _Interval()
        with interval.timed("training"):
            while trainer.step < to:
                losses = trainer.update()
                interval.fake_score_losses.append(losses.fake_score)
                interval.generator_losses.append(losses.generator)
                interval.dropped_samples += losses.dropped_samples
        on_first_worker(lambda: self._evaluate_and_save(trainer, interval))
        self._trainer = trainer

    def _resume(self) -> Trainer:
        trainer = self._context.trainer(self._settings)
        steps = reported_steps(self._folder)
        if steps:
            _load_state(trainer, step_folder(self._folder, steps[-1]))
        return trainer

    def _evaluate_and_save(self, trainer: Trainer, interval: _Interval) -> None:
        evaluation = self._context.plan.space.evaluation
        generator = trainer.ema_generator
        with interval.timed("evaluating"):
            judgement = _judgement(
                self._context,
                generator,
                self._settings,
                samples=evaluation.samples,
                forget_samples=evaluation.forget_samples,
                final=False,
            )
            grid = self._context.evaluator.grid(generator.generate, columns=grid_columns(generator.image_shape))
        target = step_folder(self._folder, trainer.step)
        with interval.timed("saving"):
            target.write(GRID, grid)
            _upload_generator(generator, target)
            if trainer.step < self._context.plan.space.trial.steps:
                write_state(target, TRAINING_STATE, trainer.state())
        target.write(REPORT, interval.report(trainer.step, judgement).to_json().encode())
        self._drop_weights_before(trainer.step)

    def _drop_weights_before(self, step: int) -> None:
        """Keep the weights of the last evaluation alone; reports and grids of all of them stay."""
        for earlier in reported_steps(self._folder):
            if earlier < step:
                folder = step_folder(self._folder, earlier)
                (folder / GENERATOR).delete()
                folder.remove(TRAINING_STATE)


def judge(context: TrialContext, settings: Settings, folder: Folder, *, samples: int, forget_samples: int) -> Report:
    """Evaluate the generator that a trial saved last once more: on its own numbers of samples, and in all metrics.

    Args:
        context: what the trials of the sweep share.
        settings: of the trial.
        folder: of the trial.
        samples: of the retained classes.
        forget_samples: of the forgotten classes.
    """
    interval = _Interval()
    step = reported_steps(folder)[-1]
    with interval.timed("evaluating"):
        generator = load_generator(folder, step, device=context.evaluator.device, prompts=context.plan.prompts)
        judgement = _judgement(context, generator, settings, samples=samples, forget_samples=forget_samples, final=True)
    return Report(
        step=step,
        metrics=judgement.metrics,
        samples=judgement.samples,
        losses={},
        seconds=interval.seconds,
        evaluation_seconds=judgement.seconds,
    )


def load_generator(
    folder: Folder, step: int, device: torch.device | str = "cpu", *, prompts: Sequence[str] = ()
) -> OneStepGenerator:
    """The generator that a trial saved at a step, with the prompts that are its conditions, if it reads some.

    Raises:
        UserError: its folder is not there or broken.
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


def _judgement(
    context: TrialContext,
    generator: OneStepGenerator,
    settings: Settings,
    *,
    samples: int,
    forget_samples: int,
    final: bool,
) -> EvaluationResult:
    return context.evaluator.evaluate(
        generator.generate,
        override=context.plan.replacements[settings.override],
        samples=samples,
        forget_samples=forget_samples,
        final=final,
    )


def _load_state(trainer: Trainer, folder: Folder) -> None:
    try:
        trainer.load_state(read_state(folder, TRAINING_STATE))
    except (FileNotFoundError, SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise TrialFailed(f"cannot go on from {folder}/{TRAINING_STATE}: missing or broken ({reason})") from error


def _upload_generator(generator: OneStepGenerator, target: Folder) -> None:
    (target / GENERATOR).delete()  # what a killed worker may have left
    with tempfile.TemporaryDirectory() as scratch:
        generator.save(Path(scratch) / GENERATOR)
        (target / GENERATOR).upload(Path(scratch) / GENERATOR)
