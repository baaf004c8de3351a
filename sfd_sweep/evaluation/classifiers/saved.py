"""Our own folders of classifiers: `config.json`, which says what network it is, and `model.safetensors`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.residual import ResidualConfig
from sfd_sweep.evaluation.classifiers.small_cnn import SmallCnnConfig
from sfd_sweep.evaluation.classifiers.trainable import CONFIG, WEIGHTS, TrainableClassifier
from sfd_sweep.storage.folder import Folder

AnyConfig = Annotated[SmallCnnConfig | ResidualConfig, Field(discriminator="architecture")]
_CONFIG = TypeAdapter[SmallCnnConfig | ResidualConfig](AnyConfig)


def read_classifier(folder: Folder) -> TrainableClassifier:
    """The classifier of a folder that `sfd-sweep train-classifier` wrote, in float32.

    Raises:
        UserError: its files are broken or do not fit each other.
    """
    classifier = _read_config(folder).build()
    classifier.load_state_dict(_read_weights(folder, classifier))
    return classifier


def _read_config(folder: Folder) -> SmallCnnConfig | ResidualConfig:
    try:
        return _CONFIG.validate_json(folder.read(CONFIG))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{folder.path}/{CONFIG} describes no classifier: {where}: {first['msg']}") from error


def _read_weights(folder: Folder, classifier: TrainableClassifier) -> dict[str, Tensor]:
    where = f"{folder.path}/{WEIGHTS}"
    try:
        weights = load(folder.read(WEIGHTS))
    except FileNotFoundError as error:
        raise UserError(f"{where} is missing; train the classifier again") from error
    except SafetensorError as error:
        raise UserError(f"{where} is no whole safetensors file ({error}); train it again") from error
    expected = {name: tuple(weight.shape) for name, weight in classifier.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{where} does not fit {CONFIG}: {name} is of shape {found.get(name, 'missing')}, "
                f"not {expected.get(name, 'wanted')}; train it again"
            )
        if not weights[name].isfinite().all():
            raise UserError(f"{where}: {name} holds values that are not finite; train it again")
    return weights
