"""torchvision's ImageNet classifiers, by their name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from torch import Tensor
from torchvision import models
from torchvision.models import WeightsEnum

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.pretrained import Pretrained
from sfd_sweep.hub import answers


def torchvision_parts(name: str) -> Pretrained:
    """A classifier of torchvision with its best ImageNet weights.

    Raises:
        UserError: there is no such classifier, or its weights cannot be fetched.
    """
    known = models.list_models(module=models)
    if name not in known:
        nearest = get_close_matches(name, known, n=1, cutoff=0)[0]
        raise UserError(f"torchvision has no classifier {name!r}; did you mean torchvision:{nearest}?")
    weights = models.get_model_weights(name).DEFAULT
    network = models.get_model(name)
    network.load_state_dict(fetch_weights(weights))
    return Pretrained(
        network=network,
        prepare=weights.transforms(),
        recipe={"torchvision": str(weights), "transforms": repr(weights.transforms())},
        class_names=weights.meta["categories"],
        channels=3,
    )


def fetch_weights(weights: WeightsEnum) -> Mapping[str, Tensor]:
    """The tensors of torchvision's weights: downloaded, or kept from an earlier download.

    Raises:
        UserError: they cannot be fetched.
    """
    kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        if not kept.is_file() and not answers(weights.url):
            raise TimeoutError("the server does not answer")
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return state
    except (OSError, RuntimeError, UnpicklingError) as error:  # the last two: a file that is not whole
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{weights} could not be fetched from {weights.url} ({reason}); check the network, or put it at {kept}"
        ) from error
