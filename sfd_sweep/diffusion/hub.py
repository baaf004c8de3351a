"""Models fetched from the hub: what of a repository is needed, and no wait without end. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from sfd_sweep.diffusion.weights import OLD_WEIGHTS, WEIGHTS
from sfd_sweep.errors import UserError

HUB_TIMEOUT = 10  # seconds


def download(hub_id: str, components: Sequence[str]) -> Path:
    """The local folder of a model on the hub.

    Args:
        hub_id: owner/name.
        components: the folders of networks that a model may have; whatever else is in the repository stays there.

    Raises:
        UserError: it cannot be fetched.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    fetch = partial(snapshot_download, hub_id, local_files_only=not _answers(constants.ENDPOINT))
    wanted = [f"{component}/{file}" for component in components for file in ("config.json", WEIGHTS)]
    try:
        folder = Path(fetch(allow_patterns=["model_index.json", "scheduler/scheduler_config.json", *wanted]))
        present = [folder / component for component in components if (folder / component).is_dir()]
        bare = [f"{component.name}/{OLD_WEIGHTS}" for component in present if not (component / WEIGHTS).is_file()]
        return Path(fetch(allow_patterns=bare)) if bare else folder
    except (HFValidationError, OSError) as error:  # every failure to fetch is an OSError
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{hub_id!r} is no folder here and could not be fetched from the hub ({reason}); "
            "check the name and the network, or give a local folder"
        ) from error


def _answers(endpoint: str) -> bool:
    """Whether a server answers soon. The hub's own client waits without end where a network swallows what is sent."""
    try:
        urlopen(endpoint, timeout=HUB_TIMEOUT).close()
    except URLError as error:
        return not isinstance(error.reason, TimeoutError)  # the client finds out by itself, and words it better
    except TimeoutError:
        return False
    return True
