"""Models on the hub: which files of a repository are needed. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfd_sweep.diffusion.weights import OLD_WEIGHTS, WEIGHTS
from sfd_sweep.hub import fetch


def fetch_model(hub_id: str, components: Sequence[str]) -> Path:
    """The local folder of a model on the hub; old weights are fetched only where there are no others.

    Args:
        hub_id: OWNER/NAME.
        components: the folders of networks that a model may have; whatever else is in the repository stays there.

    Raises:
        UserError: it cannot be fetched.
    """
    wanted = [f"{component}/{file}" for component in components for file in ("config.json", WEIGHTS)]
    folder = fetch(hub_id, kind="model", files=["model_index.json", "scheduler/scheduler_config.json", *wanted])
    present = [folder / component for component in components if (folder / component).is_dir()]
    bare = [f"{component.name}/{OLD_WEIGHTS}" for component in present if not (component / WEIGHTS).is_file()]
    return fetch(hub_id, kind="model", files=bare) if bare else folder
