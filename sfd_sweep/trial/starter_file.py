"""A commented search-space file for a teacher, from what its folder says. Imports no torch."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfd_sweep.config import Settings
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import PROMPTS
from sfd_sweep.models.folder import ASSETS, BUILTIN_MODELS, ModelFolder

TEMPLATE = ASSETS / "search_space.yaml.txt"
COMMENT_COLUMNS = (34, 76)
"""At which comments begin, by the lengths of their lines."""


@dataclass(frozen=True)
class Scale:
    """Settings that go with the size of a teacher, as in the search-space files that come with sfd-sweep."""

    steps: int
    evaluate_every: int
    lowest_lr: str
    highest_lr: str
    batch_size: int
    forget_batch_size: int
    ema_decay: float
    samples: int
    gpus: int
    precision: str


SMALL = Scale(20, 10, "2.0e-5", "3.0e-4", 64, 32, 0.99, 2000, 0, "float32")
IMAGES = Scale(50_000, 5000, "3.0e-6", "1.0e-4", 128, 128, 0.9999, 9000, 1, "tf32")
TEXT_TO_IMAGE = Scale(12_500, 1250, "3.0e-7", "1.0e-5", 8, 8, 0.0, 2000, 1, "tf32")
SMALL_PIXELS = 16
"""Width up to which images are small."""
TEXT_STEPS = {"t_min": 20, "t_init": 625, "t_max": 980}
"""Diffusion steps of the public release for Stable Diffusion."""


def starter_file(
    source: str,
    *,
    forget: str | None = None,
    others: Sequence[str] = (),
    classifier: str | None = None,
    name: str | None = None,
) -> str:
    """Return the text of a search-space file with a comment for each key, which `run --dry-run` accepts.

    Args:
        source: the teacher: `builtin:digits`, a diffusers folder, or a hub id.
        forget: class or concept to forget; None: the first class.
        others: concepts that a text-to-image teacher retains.
        classifier: source of the one that evaluates; None: one that is still to be trained or CLIP.
        name: of the sweep; None: made of the teacher's and what is forgotten.

    Raises:
        UserError: the teacher is unusable, or the conditions do not fit it.
    """
    teacher = ModelFolder.open(source)
    if teacher.t_init is not None:
        raise UserError(f"{source} is a one-step generator; name the diffusion model that it came from")
    _check(teacher, source, forget, others)
    of_concepts = teacher.kind is PROMPTS
    forgotten = str(forget) if of_concepts else teacher.class_names[_index(teacher, forget)]
    retained = list(others) if of_concepts else [each for each in teacher.class_names if each != forgotten]
    is_local = Path(source).expanduser().is_dir()  # a hub id names a folder that is called by a hash
    model = teacher.path.name if is_local else source.removeprefix("builtin:").rpartition("/")[2]
    title = name or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model}-forget-{forgotten}").strip("-._")
    scale = _scale(teacher)
    return _aligned(
        TEMPLATE.read_text(encoding="utf-8").format(
            about=_about(teacher, source),
            name=_text(title),
            task=_concepts(source, forgotten, retained) if of_concepts else _classes(source, forgotten),
            guidance=_guidance(teacher),
            overrides=_text(retained[:2] if of_concepts else [retained[0], "random"]),
            loss="epsilon" if teacher.prediction_type in {"epsilon", "sample"} else "velocity",
            prediction=teacher.prediction_type,
            classifier=_text(classifier or _classifier(teacher, source, title)),
            final_samples=5 * scale.samples,
            **_diffusion_steps(teacher),
            **vars(scale),
        )
    )


def _check(teacher: ModelFolder, source: str, forget: str | None, others: Sequence[str]) -> None:
    if teacher.kind is not PROMPTS and others:
        raise UserError(f"--others is for text-to-image teachers, and {source} has classes; leave it out")
    if teacher.kind is PROMPTS and not (forget and others):
        raise UserError(
            f"{source} is a text-to-image model: name the concept with --forget, and others that stay with --others"
        )
    if teacher.kind is not PROMPTS and len(teacher.class_names) < 2:
        raise UserError(f"{source} has a single class, so nothing would be retained; choose another teacher")


def _index(teacher: ModelFolder, forget: str | None) -> int:
    if forget is None:
        return 0
    return class_index(teacher.class_names, int(forget) if forget.isdecimal() else forget)


def _scale(teacher: ModelFolder) -> Scale:
    if teacher.image_shape[-1] <= SMALL_PIXELS:
        return SMALL
    return TEXT_TO_IMAGE if teacher.kind is PROMPTS else IMAGES


def _about(teacher: ModelFolder, source: str) -> str:
    shape = "×".join(map(str, teacher.image_shape))
    null = "a null label" if teacher.null_label is not None else "no null label"
    names = ", ".join(teacher.class_names[:12]) + (", …" if len(teacher.class_names) > 12 else "")
    lines = [
        f"{teacher.network['_class_name']} of {teacher.parameter_count:,} parameters, {shape} pixels, {null}",
        f"it predicts {teacher.prediction_type} at {teacher.diffusion_steps} {teacher.process.steps_in_words}",
        *([f"classes: {names}"] if teacher.class_names else ["conditions are prompts"]),
    ]
    return "\n".join(f"#   {line}" for line in (source, *lines))


def _classes(source: str, forgotten: str) -> str:
    return f"""  teacher: {_text(source)}
  start: teacher  # or a distilled one-step generator (`sfd-sweep distill`): far shorter trials
  forget: [{_text(forgotten)}]"""


def _concepts(source: str, forgotten: str, others: Sequence[str]) -> str:
    return f"""  kind: concept  # a condition is a prompt
  teacher: {_text(source)}
  start: teacher  # or a distilled one-step generator (`sfd-sweep distill`): far shorter trials
  forget: [{_text(forgotten)}]
  prompts:  # lists, or files with one prompt a line
    forget: ["{{concept}}", "a photo of {{concept}}", "a picture of {{concept}}"]  # about the forgotten concept
    retain: ["{{concept}}", "a photo of {{concept}}", "a picture of {{concept}}"]  # {{concept}} is each of `others`
    others: {_text(list(others))}"""


def _guidance(teacher: ModelFolder) -> str:
    if teacher.null_label is None:
        return "guidance_scale: 1  # κ4: the teacher has no null label, so no guidance"
    high = 7.5 if teacher.kind is PROMPTS else 2
    return f"guidance_scale: {{type: float, low: 1, high: {high}}}  # κ4: guidance of the teacher; 1 is none"


def _diffusion_steps(teacher: ModelFolder) -> dict[str, int]:
    """Return the steps with the usual noise, within the teacher's schedule."""
    usual = teacher.process.usual_steps(teacher.scheduler)
    if usual is None:
        named = {name: int(Settings.model_fields[name].default) for name in TEXT_STEPS}
        usual = TEXT_STEPS if teacher.kind is PROMPTS else named
        usual = {name: step * teacher.diffusion_steps // 1000 for name, step in usual.items()}
    return dict(usual)


def _classifier(teacher: ModelFolder, source: str, title: str) -> str:
    if source in BUILTIN_MODELS:
        return "builtin:digits"
    return "clip:openai/clip-vit-large-patch14" if teacher.kind is PROMPTS else f"models/{title}-classifier"


def _text(value: Any) -> str:
    """Return a value as YAML: JSON is a part of it."""
    return json.dumps(value, ensure_ascii=False)


def _aligned(text: str) -> str:
    return re.sub(r"^(.*\S)  # ", lambda match: _padded(match[1]) + "  # ", text, flags=re.MULTILINE)


def _padded(text: str) -> str:
    return text.ljust(next((column for column in COMMENT_COLUMNS if len(text) <= column), 0))
