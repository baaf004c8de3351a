"""From what a user calls a classifier to the classifier."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.pretrained import PretrainedClassifier
from sfd_sweep.evaluation.classifiers.saved import read_classifier
from sfd_sweep.evaluation.classifiers.trainable import CONFIG
from sfd_sweep.hub import fetch, is_hub_id
from sfd_sweep.storage.folder import Folder

BUILTIN_CLASSIFIERS = {"builtin:digits": Path(__file__).parents[2] / "assets" / "digits" / "classifier"}
CLIP = "clip:"
NUDENET = "nudenet"
NAMED = ("builtin:", "timm:", "torchvision:")
FILES = (CONFIG, "preprocessor_config.json", "processor_config.json", "*.safetensors", "*.safetensors.index.json")
"""What a classifier's folder consists of, of whatever format, as patterns of shell wildcards."""


def load_classifier(source: str | os.PathLike[str], *, concepts: Sequence[str] = ()) -> Classifier:
    """A classifier in float32, on the CPU, in evaluation mode and frozen.

    Args:
        source: `builtin:digits`; a folder that `train-classifier` wrote, or of transformers or timm, which its
            config.json tells; a repository of the hub with one of the latter (OWNER/NAME); `timm:NAME` or
            `torchvision:NAME` for ImageNet's; `clip:FOLDER` or
            `clip:OWNER/NAME` for a CLIP of transformers; or `nudenet`.
        concepts: texts that are the classes of CLIP, at least two; the other kinds have classes of their own.

    Raises:
        UserError: there is none, it is broken, it cannot be fetched, or its library is not installed; or there are
            concepts without CLIP, or CLIP without concepts.
    """
    source = os.fspath(source)
    if concepts and not source.startswith(CLIP):
        raise UserError(f"{source} has classes of its own, not concepts; leave those out, or give clip:OWNER/NAME")
    classifier = _load_clip(source.removeprefix(CLIP), concepts) if source.startswith(CLIP) else _load(source)
    classifier.name = f"the classifier {source}"
    return classifier.eval().requires_grad_(False)


def is_portable(source: str) -> bool:
    """Whether a source is the same classifier on every machine, as a folder's path is not."""
    place = source.removeprefix(CLIP)
    return source == NUDENET or source.startswith(NAMED) or (is_hub_id(place) and not Path(place).expanduser().exists())


def _load_clip(place: str, concepts: Sequence[str]) -> Classifier:
    from sfd_sweep.evaluation.classifiers.clip import ClipClassifier

    return ClipClassifier(place, concepts)


def _load(source: str) -> Classifier:
    library, _, name = source.partition(":")
    if source == NUDENET:
        from sfd_sweep.evaluation.classifiers.nudenet import NudeNetClassifier

        return NudeNetClassifier()
    if library == "torchvision":
        from sfd_sweep.evaluation.classifiers.torchvision_model import torchvision_parts

        return PretrainedClassifier(torchvision_parts(name), source)
    if library == "timm":
        from sfd_sweep.evaluation.classifiers.timm_model import timm_repository

        return _of_folder(Folder.open(fetch(timm_repository(name), kind="model", files=FILES)))
    if library == "builtin":
        if source not in BUILTIN_CLASSIFIERS:
            raise UserError(f"no classifier {source!r} is shipped; there are: {', '.join(BUILTIN_CLASSIFIERS)}")
        return _of_folder(Folder.open(BUILTIN_CLASSIFIERS[source]))
    return _of_folder(Folder.open(fetch(source, kind="model", files=FILES) if is_portable(source) else source))


def _of_folder(folder: Folder) -> Classifier:
    config = _read_config(folder)
    if "class_names" in config:
        return read_classifier(folder)
    if not folder.is_local:
        raise UserError(f"{folder.path} holds a classifier of another library, which reads local folders only; copy it")
    path = Path(folder.path)
    if "architectures" in config:
        from sfd_sweep.evaluation.classifiers.hugging_face import hugging_face_parts

        return PretrainedClassifier(hugging_face_parts(path), folder.path)
    if "architecture" in config:
        from sfd_sweep.evaluation.classifiers.timm_model import timm_parts

        return PretrainedClassifier(timm_parts(path), folder.path)
    raise UserError(
        f"{folder.path}/{CONFIG} describes no classifier: it has neither class_names (as `sfd-sweep train-classifier` "
        "writes), nor architectures (transformers), nor architecture (timm)"
    )


def _read_config(folder: Folder) -> dict[str, Any]:
    try:
        config = json.loads(folder.read(CONFIG))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder.path}: there is no classifier, {CONFIG} is missing; give builtin:digits, a folder that "
            "`sfd-sweep train-classifier` wrote, one of transformers or timm, a hub id, timm:NAME, torchvision:NAME, "
            "clip:OWNER/NAME or nudenet"
        ) from error
    except ValueError as error:
        raise UserError(f"{folder.path}/{CONFIG} cannot be read as JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder.path}/{CONFIG} holds no JSON object")
    return config
