"""The Hugging Face hub: fetching a repository's files, with an answer soon where there is no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from sfd_sweep.errors import UserError

TIMEOUT = 10  # seconds


def is_hub_id(source: str) -> bool:
    """Whether a source has the form of a repository's name, OWNER/NAME. So has many a relative path."""
    return source.count("/") == 1 and not source.startswith((".", "~", "/"))


def fetch(hub_id: str, *, kind: Literal["model", "dataset"], files: Sequence[str]) -> Path:
    """The local folder of a repository's files: downloaded, or kept from an earlier download if the hub is away.

    Args:
        hub_id: OWNER/NAME.
        kind: what the repository is.
        files: the files that are wanted, as patterns of shell wildcards.

    Raises:
        UserError: there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            hub_id,
            repo_type=kind,
            allow_patterns=list(files),
            local_files_only=not answers(constants.ENDPOINT),
        )
        return Path(folder)
    except (HFValidationError, OSError) as error:  # every failure to fetch is an OSError
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{hub_id!r} is no folder here and could not be fetched from the hub ({reason}); "
            "check the name and the network, or give a local folder"
        ) from error


def answers(endpoint: str) -> bool:
    """Whether a server answers soon. The hub's own client waits without end where a network swallows what is sent."""
    try:
        urlopen(endpoint, timeout=TIMEOUT).close()
    except URLError as error:
        return not isinstance(error.reason, TimeoutError)  # the client finds out by itself, and words it better
    except TimeoutError:
        return False
    return True
