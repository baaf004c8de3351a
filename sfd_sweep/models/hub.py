"""Models on the hub: which files of a repository are needed. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from sfd_sweep.hub import fetch
from sfd_sweep.models.components import CARD, INDEX, SCHEDULER, TEXT_ENCODER, TOKENIZER, read_components, read_json
from sfd_sweep.models.weights import DIFFUSERS, TRANSFORMERS, WeightFiles


def fetch_model(hub_id: str) -> Path:
    """The local folder of a model on the hub; old weights are fetched only where there are no others.

    What is in the repository beside the parts of a model that is known stays there.

    Args:
        hub_id: OWNER/NAME.

    Raises:
        UserError: it cannot be fetched, or is of a kind that is not supported; then no weights were fetched.
    """
    folder = fetch(hub_id, kind="model", files=[INDEX])
    components = read_components(folder, read_json(folder / INDEX))
    weights = {name: _weight_files(name) for name in components if name not in (SCHEDULER, TOKENIZER)}
    wanted = [f"{name}/{file}" for name, files in weights.items() for file in ("config.json", files.safe)]
    wanted += [f"{SCHEDULER}/scheduler_config.json", CARD]
    if TOKENIZER in components:
        wanted.append(f"{TOKENIZER}/*")
    folder = fetch(hub_id, kind="model", files=wanted)
    bare = [f"{name}/{files.old}" for name, files in weights.items() if not (folder / name / files.safe).is_file()]
    return fetch(hub_id, kind="model", files=bare) if bare else folder


def _weight_files(component: str) -> WeightFiles:
    return TRANSFORMERS if component == TEXT_ENCODER else DIFFUSERS
