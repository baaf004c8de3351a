"""Commands that train models: teachers, one-step generators, and classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.options import (
    Device,
    Force,
    ImageClassNames,
    Images,
    Out,
    check_file,
    check_target,
    chosen_device,
    one_thread,
    parse_class_names,
    write_file,
)
from sfd_sweep.cli.progress import progress_bar
from sfd_sweep.errors import TrialFailed, UserError

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from sfd_sweep.datasets.images import LabeledImages
    from sfd_sweep.execution.training import Workers
    from sfd_sweep.models.folder import ModelFolder
    from sfd_sweep.models.score_model import ScoreModel
    from sfd_sweep.teachers.teacher_evaluator import TeacherEvaluator
    from sfd_sweep.teachers.training_job import ModelT, TrainingJob

SHIPPED_DIGITS = ("builtin:digits", "builtin:digits-in-words")
GUIDANCE = 1.25
COLUMNS = 10
MIN_TILE = 32
"""Smallest size of an image in a picture, in pixels."""

Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a field of the preset, such as batch_size=64; repeatable.", metavar="FIELD=VALUE"
    ),
]
Evaluate = Annotated[
    bool, typer.Option("--evaluate/--no-evaluate", help="Evaluate the model, if a classifier fits it.")
]
WorkerCount = Annotated[int, typer.Option("--workers", help="Ray Train workers; 0 trains in this process.", min=0)]
WorkerCpus = Annotated[int, typer.Option("--cpus-per-worker", help="CPU cores of a worker.", min=1)]
WorkerGpus = Annotated[
    float, typer.Option("--gpus-per-worker", help="GPUs of a worker; may be a fraction.", min=0, max=1)
]
WorkerAddress = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster of the workers: local, auto, or HOST:PORT.", metavar="ADDRESS"),
]
SaveEvery = Annotated[int, typer.Option(help="Updates between two training states.", min=1)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last training state.")]
Seed = Annotated[int | None, typer.Option(help="Seed of all random numbers.", min=0)]


def pretrain(
    source: Images,
    *,
    out: Out,
    preset: Annotated[
        str, typer.Option(help="Preset: digits, digits-flow, digits-text, small-cifar10, ddpm-cifar10, or ddpm-stl10.")
    ] = "digits",
    fields: Fields = None,
    class_names: ImageClassNames = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Class, by index or name, whose images the teacher never sees; repeatable.", metavar="CLASS"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates; default: the preset's.", min=1)] = None,
    seed: Seed = None,
    workers: WorkerCount = 0,
    cpus_per_worker: WorkerCpus = 1,
    gpus_per_worker: WorkerGpus = 0,
    address: WorkerAddress = None,
    save_every: SaveEvery = 1000,
    resume: Resume = False,
    classifier: Annotated[
        str | None, typer.Option(help="Classifier that evaluates the teacher; default for digits: builtin:digits.",
                                 metavar="DIR")
    ] = None,
    evaluate: Evaluate = True,
    grid: Annotated[Path | None, typer.Option(help="Picture of samples to write (PNG).", metavar="FILE")] = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Pretrain a teacher.

    Its conditions are the classes of the images, or with --preset digits-text prompts that name them. Training runs in
    this process or on a Ray cluster, and its state is kept in DIR.pretraining until the teacher is complete. With
    --without, the teacher keeps all classes but knows only the others: distilled, it is the control of an audit.
    """
    check_target(out, force)
    if grid is not None:
        check_file(grid)
    names = None if class_names is None else parse_class_names(class_names)
    _check_address(address, workers)
    import torch

    from sfd_sweep.config import with_overrides
    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.execution.training import Workers
    from sfd_sweep.models.loading import save_score_model
    from sfd_sweep.teachers.networks import check_images
    from sfd_sweep.teachers.pretraining import PretrainingJob
    from sfd_sweep.teachers.recipes import PRESETS, preset_named

    recipe = with_overrides(preset_named(PRESETS, preset), [*_options(steps=steps, seed=seed), *(fields or [])])
    one_thread() if cpus_per_worker == 1 else torch.set_num_threads(cpus_per_worker)
    images = _known_images(load_images(source, class_names=names, size=recipe.image_size), without or ())
    check_images(images.image_shape, recipe)
    evaluator = _evaluator(source, images, classifier) if evaluate else None
    by = Workers(count=workers, cpus=cpus_per_worker, gpus=gpus_per_worker, address=address)
    job = PretrainingJob(source, images, recipe)
    training = _trained(job, out, by, recipe.steps, save_every=save_every, resume=resume, force=force, rate="lr")
    with training as model:
        save_score_model(model.to("cpu"), out, dtype=getattr(torch, recipe.stored_as))
    prompts = recipe.text.shortest_prompts(images.class_names) if recipe.text else ()
    device = "cuda" if gpus_per_worker and torch.cuda.is_available() else "cpu"
    _report(out, evaluator, grid, names=prompts or images.class_names, device=device)


def _check_address(address: str | None, workers: int) -> None:
    if address is not None and not workers:
        raise UserError("--address is the cluster of --workers; give their number too")


def _known_images(images: LabeledImages, without: Sequence[str]) -> LabeledImages:
    """Return the images of all classes but those that the teacher never sees."""
    from sfd_sweep.datasets.labels import class_index

    try:
        known = images.without([class_index(images.class_names, name) for name in without])
    except UserError as error:
        raise UserError(f"--without: {error}") from error
    if not len(known):
        raise UserError("--without: no class is left; a teacher needs at least one")
    return known


def _evaluator(source: str, images: LabeledImages, classifier: str | None) -> TeacherEvaluator | None:
    """Return the evaluator of a teacher; None if there is no classifier for its images."""
    from sfd_sweep.teachers.teacher_evaluator import TeacherEvaluator

    if classifier is not None:
        evaluator = TeacherEvaluator.load(classifier=classifier, reference=source)
        names = images.class_names
    elif source in SHIPPED_DIGITS:
        evaluator = TeacherEvaluator.load()
        names = evaluator.images.class_names
    else:
        return None
    evaluator.check_fit(names, images.image_shape)
    return evaluator.of_model(names, images.absent)


def _report(
    out: Path, evaluator: TeacherEvaluator | None, grid: Path | None, *, names: Sequence[str], device: str
) -> None:
    """Print the distance of a stored teacher, or its size, and write the picture.

    Args:
        out: The teacher's folder.
        evaluator: What measures the distance.
        grid: File of the picture.
        names: The classes, or a prompt for each class.
        device: Device of the teacher.
    """
    from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid
    from sfd_sweep.models.folder import ModelFolder
    from sfd_sweep.models.loading import load_score_model

    folder = ModelFolder.open(str(out))
    teacher = load_score_model(folder, device, prompts=names)
    if evaluator is None:
        known = f"{len(names) - len(folder.absent_names)} {folder.kind.plural}{_without(folder)}"
        print(f"{out}: teacher of {known} with {folder.parameter_count:,} parameters")
    else:
        distance = evaluator.distance(lambda c, noise: _sample(teacher, c, noise))
        print(
            f"{out}: fd_classifier {distance:.4g} on 2,000 samples{_without(folder)} (20 steps of "
            f"{folder.process.sampler}, guidance {GUIDANCE})"
        )
    if grid is not None:
        import torch

        noise = torch.Generator().manual_seed(0)
        rows = [
            GridRow(name, _sample(teacher, torch.full((COLUMNS,), index), noise)) for index, name in enumerate(names)
        ]
        write_file(grid, sample_grid(rows, scale=max(1, MIN_TILE // teacher.image_shape[-1])))
        print(f"{grid}: {COLUMNS} samples of each class")


def _without(folder: ModelFolder) -> str:
    """Return what a model was never trained on, in words."""
    return f" without {', '.join(folder.absent_names)}" if folder.absent_names else ""


def _sample(teacher: ScoreModel, c: Tensor, noise: Generator) -> Tensor:
    from sfd_sweep.models.samplers import sample_ddim

    return sample_ddim(teacher, c.to(teacher.device), noise, guidance_scale=GUIDANCE)


def distill(
    teacher: Annotated[
        str, typer.Argument(help="Diffusion model: builtin:digits, a diffusers folder, or a hub id.", metavar="TEACHER")
    ],
    *,
    out: Out,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="Prompts of a text-to-image teacher: a file with one prompt a line, or PATH[:COLUMN] of a CSV or "
            "Parquet file.",
            metavar="FILE",
        ),
    ] = None,
    fields: Fields = None,
    steps: Annotated[int | None, typer.Option(help="Updates; default: the preset's.", min=1)] = None,
    seed: Seed = None,
    workers: WorkerCount = 0,
    cpus_per_worker: WorkerCpus = 1,
    gpus_per_worker: WorkerGpus = 0,
    address: WorkerAddress = None,
    save_every: SaveEvery = 1000,
    resume: Resume = False,
    device: Device = "auto",
    evaluate: Evaluate = True,
    force: Force = False,
) -> None:
    """Distill a teacher into a one-step generator.

    The generator has forgotten nothing; sweeps can start from it (task.start). It is trained on the classes or prompts
    that the teacher knows, in this process on --device or on a Ray cluster, and its state is kept in DIR.distillation
    until it is complete. The preset is that of the shipped digits or, for prompts, of digits in words. --set takes
    steps, seed, any hyperparameter (alpha=1.0), and resources (precision, micro_batch_size, activation_checkpointing).
    """
    check_target(out, force)
    _check_address(address, workers)
    import torch

    one_thread() if cpus_per_worker == 1 else torch.set_num_threads(cpus_per_worker)

    from sfd_sweep.config import with_overrides
    from sfd_sweep.execution.training import Workers
    from sfd_sweep.method.generator import OneStepGenerator
    from sfd_sweep.models.conditioning import CLASSES, PROMPTS
    from sfd_sweep.models.folder import ModelFolder
    from sfd_sweep.teachers.distillation import DistillationJob, preset_for

    folder = ModelFolder.open(teacher)
    gpus = gpus_per_worker if workers else float(chosen_device(device) == "cuda")
    options = _options(steps=steps, seed=seed, gpus_per_worker=gpus)
    distillation = with_overrides(preset_for(folder), [*options, *(fields or [])])
    distillation.check_teacher(folder)
    conditions = _conditions(folder, prompts)
    evaluator = _evaluator_of_digits(folder) if evaluate and folder.kind is CLASSES else None
    by = Workers(count=workers, cpus=cpus_per_worker, gpus=gpus, address=address)
    job = DistillationJob(teacher, conditions if folder.kind is PROMPTS else (), distillation)
    training = _trained(
        job, out, by, distillation.steps, save_every=save_every, resume=resume, force=force, rate="generator_lr"
    )
    with training as generator:
        generator.save(out, dtype=torch.float16)
    known = len(generator.model.conditioning.present)
    print(f"{out}: one-step generator of {known} {folder.kind.plural}{_without(folder)}")
    if evaluator is not None:
        distance = evaluator.distance(OneStepGenerator.load(out).generate)
        print(f"fd_classifier {distance:.4g} on 2,000 samples{_without(folder)}")


def _conditions(folder: ModelFolder, prompts: str | None) -> tuple[str, ...]:
    """Return the classes of a teacher, or the prompts for a text-to-image teacher."""
    from sfd_sweep.datasets.prompts import read_prompts
    from sfd_sweep.models.conditioning import PROMPTS

    if folder.kind is PROMPTS:
        if prompts is None:
            raise UserError(f"{folder.path} makes images of prompts; name a file of prompts (--prompts FILE)")
        texts = read_prompts(prompts)
        if len(folder.absent(texts)) == len(texts):
            raise UserError(f"--prompts: {folder.path} was never trained on what they name; give other prompts")
        if cut := folder.too_long(texts):
            print(f"{len(cut):,} of {len(texts):,} prompts are longer than the teacher reads; they are cut")
        return texts
    if prompts is not None:
        raise UserError(f"--prompts are for text-to-image teachers, and {folder.path} makes images of classes")
    return folder.class_names


def _evaluator_of_digits(folder: ModelFolder) -> TeacherEvaluator | None:
    """Return the evaluator of models of the shipped digits; None for a model of anything else."""
    from sfd_sweep.teachers.teacher_evaluator import TeacherEvaluator

    evaluator, names = TeacherEvaluator.load(), folder.class_names
    try:
        evaluator.check_fit(names, folder.image_shape)
    except UserError:
        return None
    return evaluator.of_model(names, folder.absent(names))


def train_classifier(
    source: Images,
    *,
    out: Out,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset; default by image size: digits up to 16 pixels, cifar-resnet up to 64 (on a CPU "
            "cifar-resnet-small), resnet34-224 above."
        ),
    ] = None,
    fields: Fields = None,
    class_names: ImageClassNames = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images; default: the preset's.", min=1)] = None,
    seed: Seed = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Train a classifier that evaluates generators."""
    check_target(out, force)
    names = None if class_names is None else parse_class_names(class_names)
    from sfd_sweep.config import with_overrides
    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.teachers.classifier_training import ClassifierTraining
    from sfd_sweep.teachers.classifier_training import train_classifier as train

    place = chosen_device(device)
    images = load_images(source, class_names=names)
    recipe = ClassifierTraining.preset_for(images.image_shape, name=preset, gpu=place == "cuda")
    recipe = with_overrides(recipe, [*_options(epochs=epochs, seed=seed), *(fields or [])])
    if recipe.network == "digits":
        one_thread()
    with progress_bar(f"training {recipe.network}", recipe.epochs) as advance:
        trained = train(
            images,
            recipe.network_for(images),
            recipe,
            device=place,
            start=recipe.first_weights(),
            progress=lambda epoch, _loss: advance(epoch),
        )
    trained.save(out)
    print(f"{out}: {recipe.network} with an accuracy of {trained.config.held_out_accuracy:.2%} on the held-out images")


def _options(**values: float | None) -> list[str]:
    """Return the options that are given as assignments."""
    return [f"{name}={value}" for name, value in values.items() if value is not None]


@contextmanager
def _trained(
    job: TrainingJob[ModelT],
    out: Path,
    workers: Workers,
    steps: int,
    *,
    save_every: int,
    resume: bool,
    force: bool,
    rate: str,
) -> Iterator[ModelT]:
    """Train a model with a bar, and yield it to be stored (see `execution.training.trained`).

    Args:
        job: What is trained.
        out: Folder of the future model.
        workers: Who trains.
        steps: Updates of the job.
        save_every: Updates between two states.
        resume: Whether to continue from the last state.
        force: Whether to drop it otherwise.
        rate: Field of the learning rate, which a divergence advises to lower.
    """
    from sfd_sweep.execution.training import trained, working_folder

    with _divergence_explained(rate), progress_bar(job.kind, steps) as advance:
        training = trained(
            job,
            workers=workers,
            folder=working_folder(out, job.kind),
            save_every=save_every,
            resume=resume,
            overwrite=force,
            progress=lambda step, _steps, loss: advance(step, loss),
        )
        with training as model:
            yield model


@contextmanager
def _divergence_explained(rate: str) -> Iterator[None]:
    try:
        yield
    except TrialFailed as error:
        raise UserError(f"{error}; try a lower learning rate (--set {rate}=…)") from error
