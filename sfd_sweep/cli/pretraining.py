"""The command that makes a teacher of images."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.making import check_target, parse_class_names, progress_bar
from sfd_sweep.cli.options import Force, ImageClassNames, Images, Out, check_file, one_thread, write_file
from sfd_sweep.errors import TrialFailed, UserError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from torch import Generator, Tensor

    from sfd_sweep.datasets.images import LabeledImages
    from sfd_sweep.execution.pretraining import Workers
    from sfd_sweep.models.score_model import ScoreModel
    from sfd_sweep.teachers.quality import QualityJudge
    from sfd_sweep.teachers.recipes import Pretraining

DIGITS = "builtin:digits"
SAME_DIGITS = (DIGITS, "builtin:digits-in-words")  # that the shipped judge knows, whatever they are called
GUIDANCE = 1.25
COLUMNS = 10  # images of a class in the picture
TILE = 32  # pixels of the picture for an image, at least


Preset = Annotated[
    str, typer.Option(help="Network and training: digits, digits-text, small-cifar10, ddpm-cifar10 or ddpm-stl10.")
]
Steps = Annotated[int | None, typer.Option(help="Updates; this and what follows are otherwise the preset's.")]
BatchSize = Annotated[int | None, typer.Option(help="Images an update, over all workers.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate.")]
LabelDropout = Annotated[float | None, typer.Option(help="Share of images without label.")]
Products = Annotated[str | None, typer.Option(help="Arithmetic: float32, tf32 or bfloat16.")]
MicroBatchSize = Annotated[int | None, typer.Option(help="Images at a time at most, which saves memory.")]
RecipeSeed = Annotated[int | None, typer.Option(help="Seed of every random draw.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other field, such as channels=[32,64]; repeatable.", metavar="FIELD=VALUE"),
]
WorkerCount = Annotated[int, typer.Option(help="Ray Train workers; 0 is this process, without Ray.", min=0)]
Cpus = Annotated[int, typer.Option(help="CPU cores of a worker.", min=1)]
Gpus = Annotated[float, typer.Option(help="GPUs of a worker, or a part of one.", min=0, max=1)]
WorkersAddress = Annotated[
    str | None, typer.Option(help="Ray cluster of the workers: local, auto or HOST:PORT.", metavar="ADDRESS")
]
SaveEvery = Annotated[int, typer.Option(help="Updates between two saved states.", min=1)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last saved state, if there is one.")]
JudgeFolder = Annotated[
    str | None, typer.Option(help="Judge of the teacher; digits have builtin:digits.", metavar="DIR")
]
Judged = Annotated[bool, typer.Option("--judge/--no-judge", help="Whether to measure it, if there is a judge for it.")]
Grid = Annotated[Path | None, typer.Option(help="A picture of samples to make too.", metavar="FILE")]


def pretrain(
    source: Images,
    *,
    out: Out,
    preset: Preset = "digits",
    class_names: ImageClassNames = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    label_dropout: LabelDropout = None,
    precision: Products = None,
    micro_batch_size: MicroBatchSize = None,
    seed: RecipeSeed = None,
    fields: Fields = None,
    workers: WorkerCount = 0,
    cpus_per_worker: Cpus = 1,
    gpus_per_worker: Gpus = 0,
    address: WorkersAddress = None,
    save_every: SaveEvery = 1000,
    resume: Resume = False,
    classifier: JudgeFolder = None,
    judged: Judged = True,
    grid: Grid = None,
    force: Force = False,
) -> None:
    """Pretrain a teacher, here or on a Ray cluster.

    It is of the images' classes, or with --preset digits-text a small Stable Diffusion of prompts that name them. Until
    it is finished, its state is kept beside DIR, in DIR.pretraining.
    """
    check_target(out, force)
    if grid is not None:
        check_file(grid)
    names = None if class_names is None else parse_class_names(class_names)
    if address is not None and not workers:
        raise UserError("--address is of the cluster where --workers train; give their number too")
    recipe = _recipe(
        preset,
        fields or [],
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        label_dropout=label_dropout,
        precision=precision,
        micro_batch_size=micro_batch_size,
        seed=seed,
    )
    import torch

    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.execution.pretraining import Workers
    from sfd_sweep.teachers.networks import check_images

    one_thread() if cpus_per_worker == 1 else torch.set_num_threads(cpus_per_worker)
    images = load_images(source, class_names=names, size=recipe.image_size)
    check_images(images.image_shape, recipe)
    judge = _judge(source, images, classifier) if judged else None
    group = Workers(count=workers, cpus=cpus_per_worker, gpus=gpus_per_worker, address=address)
    _train(source, images, recipe, out, workers=group, save_every=save_every, resume=resume, force=force)
    prompts = recipe.text.shortest_prompts(images.class_names) if recipe.text else ()
    _look(
        out,
        images.class_names,
        prompts,
        judge,
        grid,
        device="cuda" if gpus_per_worker and torch.cuda.is_available() else "cpu",
    )


def _train(
    source: str,
    images: LabeledImages,
    recipe: Pretraining,
    out: Path,
    *,
    workers: Workers,
    save_every: int,
    resume: bool,
    force: bool,
) -> None:
    """Train the teacher, and store it."""
    import torch

    from sfd_sweep.execution.pretraining import pretrained, working_folder
    from sfd_sweep.models.loading import STABLE_DIFFUSION_INDEX, save_score_model

    try:
        with (
            progress_bar("pretraining", recipe.steps) as advance,
            pretrained(
                source,
                images,
                recipe,
                workers=workers,
                folder=working_folder(out),
                save_every=save_every,
                resume=resume,
                anew=force,
                progress=lambda step, _steps, loss: advance(step, loss),
            ) as model,
        ):
            dtype = torch.float16 if recipe.stored_as == "float16" else torch.float32
            index = STABLE_DIFFUSION_INDEX if recipe.text else {"_class_name": "DDPMPipeline"}
            save_score_model(model, out, images.class_names, index=index, dtype=dtype)
    except TrialFailed as error:
        raise UserError(f"{error}; try a lower --lr") from error


def _look(
    out: Path,
    class_names: Sequence[str],
    prompts: Sequence[str],
    judge: QualityJudge | None,
    grid: Path | None,
    *,
    device: str,
) -> None:
    """Say how good the stored teacher is, if there is a judge, and otherwise how large; make a picture, if asked to.

    If it is one of prompts, it is asked for one of each class.
    """
    from sfd_sweep.models.folder import ModelFolder
    from sfd_sweep.models.loading import load_score_model

    folder = ModelFolder.open(str(out))
    teacher = load_score_model(folder, device, prompts=prompts)
    if judge is None:
        what = "prompts" if prompts else f"{len(class_names)} classes"
        print(f"{out}: a teacher of {what} with {folder.parameter_count:,} weights")
    else:
        distance = judge.distance(lambda c, noise: _sample(teacher, c, noise))
        print(f"{out}: fd_classifier {distance:.4g} on 2,000 samples (20 steps of DDIM, guidance {GUIDANCE})")
    if grid is not None:
        write_file(grid, _grid(teacher, prompts or class_names))
        print(f"{grid}: {COLUMNS} samples of each class")


def _judge(source: str, images: LabeledImages, classifier: str | None) -> QualityJudge | None:
    """What measures the teacher: the given classifier, or the shipped one on the shipped images.

    Raises:
        UserError: it does not fit the images.
    """
    if classifier is None and source not in SAME_DIGITS:
        return None
    from sfd_sweep.teachers.quality import QualityJudge

    if classifier is None:
        judge = QualityJudge.load(classifier=DIGITS, reference=DIGITS)
        judge.check_fit(judge.images.class_names, images.image_shape)
    else:
        judge = QualityJudge.load(classifier=classifier, reference=source)
        judge.check_fit(images.class_names, images.image_shape)
    return judge


def _grid(teacher: ScoreModel, names: Sequence[str]) -> bytes:
    """A picture with a row of samples for each class or prompt."""
    import torch

    from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid

    noise = torch.Generator().manual_seed(0)
    rows = [GridRow(name, _sample(teacher, torch.full((COLUMNS,), label), noise)) for label, name in enumerate(names)]
    return sample_grid(rows, scale=max(1, TILE // teacher.image_shape[-1]))


def _sample(teacher: ScoreModel, c: Tensor, noise: Generator) -> Tensor:
    from sfd_sweep.models.samplers import sample_ddim

    return sample_ddim(teacher, c.to(next(teacher.parameters()).device), noise, guidance_scale=GUIDANCE)


def _recipe(preset: str, assignments: Sequence[str], **options: object) -> Pretraining:
    """A preset with changes; an option that is None changes nothing.

    Raises:
        UserError: there is no such preset, no such field, or a value is out of its range.
    """
    from pydantic import ValidationError

    from sfd_sweep.config.config_errors import advice
    from sfd_sweep.config.yaml_document import Document
    from sfd_sweep.teachers.recipes import PRESETS

    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: there is none of that name{advice(preset, PRESETS)}")
    given = {name: value for name, value in options.items() if value is not None}
    document = Document.parse("{}", "--set")
    for assignment in assignments:
        document.override(assignment)
    try:
        return PRESETS[preset].with_changes({**document.data, **given})
    except ValidationError as error:
        raise UserError(_explain(error.errors()[0], given)) from error


def _explain(error: ErrorDetails, options: Container[str]) -> str:
    """What is wrong with an option, in a line."""
    from sfd_sweep.config.config_errors import advice
    from sfd_sweep.teachers.recipes import Pretraining

    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"--set {name}: there is no such field{advice(name, Pretraining.model_fields)}"
    option = "--" + name.replace("_", "-") if name in options else f"--set {name}"
    return f"{option} {message}, not {error['input']}"
