"""Loading of classifiers of all kinds by their source."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.pretrained import load_timm, load_torchvision, load_transformers, timm_repository
from sfd_sweep.evaluation.classifiers.trainable import CONFIG, read_classifier
from sfd_sweep.hub import fetch, is_hub_id
from sfd_sweep.storage.folder import Folder

BUILTIN_CLASSIFIERS = {"builtin:digits": Path(__file__).parents[2] / "assets" / "digits" / "classifier"}
CLIP = "clip:"
NUDENET = "nudenet"
NAMED = ("builtin:", "timm:", "torchvision:")
FILES = (CONFIG, "preprocessor_config.json", "processor_config.json", "*.safetensors", "*.safetensors.index.json")
"""Files of a classifier's folder, of whatever format, as patterns of shell wildcards."""


def load_classifier(source: str | os.PathLike[str], *, concepts: Sequence[str] = ()) -> Classifier:
    """Return a classifier in float32, on the CPU, in evaluation mode and frozen.

    Args:
        source: `builtin:digits`; a folder of `train-classifier`, of transformers or of timm; a repository of the hub
            with one (OWNER/NAME); `timm:NAME` or `torchvision:NAME` for ImageNet's; `clip:FOLDER` or `clip:OWNER/NAME`
            for a CLIP of transformers; or `nudenet`.
        concepts: the classes of CLIP, at least two texts; the other kinds have classes of their own.

    Raises:
        UserError: the classifier is missing or broken, cannot be fetched, or its library is not installed; or there
            are concepts without CLIP, or CLIP without concepts.
    """
    source = os.fspath(source)
    if concepts and not source.startswith(CLIP):
        raise UserError(f"{source} has classes of its own, not concepts; leave those out, or give clip:OWNER/NAME")
    classifier = _load(source, concepts)
    classifier.name = f"the classifier {source}"
    return classifier.eval().requires_grad_(False)


def is_portable(source: str) -> bool:
    """Return whether a source is the same classifier on every machine, as a folder's path is not."""
    place = source.removeprefix(CLIP)
    return source == NUDENET or source.startswith(NAMED) or (is_hub_id(place) and not Path(place).expanduser().exists())


def _load(source: str, concepts: Sequence[str]) -> Classifier:
    library, _, name = source.partition(":")
    if source.startswith(CLIP):
        from sfd_sweep.evaluation.classifiers.clip import ClipClassifier

        return ClipClassifier(name, concepts)
    if source == NUDENET:
        from sfd_sweep.evaluation.classifiers.nudenet import NudeNetClassifier

        return NudeNetClassifier()
    if library == "torchvision":
        return load_torchvision(name)
    if library == "timm":
        return _of_folder(Folder.open(fetch(timm_repository(name), kind="model", files=FILES)))
    if library == "builtin":
        if source not in BUILTIN_CLASSIFIERS:
            raise UserError(f"no classifier {source!r} is shipped; there are: {', '.join(BUILTIN_CLASSIFIERS)}")
        return _of_folder(Folder.open(BUILTIN_CLASSIFIERS[source]))
    return _of_folder(Folder.open(fetch(source, kind="model", files=FILES) if is_portable(source) else source))


def _of_folder(folder: Folder) -> Classifier:
    config = _read_json(folder)
    if "class_names" in config:
        return read_classifier(folder)
    if not folder.is_local:
        raise UserError(f"{folder.path} holds a classifier of another library, which reads local folders only; copy it")
    if "architectures" in config:
        return load_transformers(Path(folder.path))
    if "architecture" in config:
        return load_timm(Path(folder.path))
    raise UserError(
        f"{folder.path}/{CONFIG} describes no classifier: it has neither class_names (as `sfd-sweep train-classifier` "
        "writes), nor architectures (transformers), nor architecture (timm)"
    )


def _read_json(folder: Folder) -> dict[str, Any]:
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
