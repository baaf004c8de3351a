"""Fetching of files from the Hugging Face hub, with a timeout where the network does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from sfd_sweep.errors import UserError, first_line

TIMEOUT = 10  # seconds


def is_hub_id(source: str) -> bool:
    """Return whether a source has the form OWNER/NAME, as many relative paths have too."""
    return source.count("/") == 1 and not source.startswith((".", "~", "/"))


def fetch(hub_id: str, *, kind: Literal["model", "dataset"], files: Sequence[str]) -> Path:
    """Return the local folder of a repository's files: downloaded, or cached if the hub cannot be reached.

    Args:
        hub_id: OWNER/NAME.
        kind: what the repository is.
        files: patterns with shell wildcards.

    Raises:
        UserError: there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        offline = not answers(constants.ENDPOINT)
        folder = snapshot_download(hub_id, repo_type=kind, allow_patterns=list(files), local_files_only=offline)
        return Path(folder)
    except (HFValidationError, OSError) as error:  # every failure to fetch is an OSError
        reason = first_line(error)
        raise UserError(
            f"{hub_id!r} is no folder here and could not be fetched from the hub ({reason}); "
            "check the name and the network, or give a local folder"
        ) from error


def answers(endpoint: str) -> bool:
    """Return whether a server answers in time; the hub's own client waits without limit for one that does not."""
    try:
        urlopen(endpoint, timeout=TIMEOUT).close()
    except URLError as error:
        return not isinstance(error.reason, TimeoutError)  # the client reports other failures in better words
    except TimeoutError:
        return False
    return True
