"""The file with Inception-V3's weights: found or fetched. Imports no torch before it is fetched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cleanfid.downloads_helper import inception_url

from sfd_sweep.errors import UserError
from sfd_sweep.hub import answers

WEIGHTS = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"


def find_weights(weights: str | None) -> Path:
    """Return the folder that holds the weights on this machine; they are fetched if none does.

    Args:
        weights: a file, a folder that holds it, or a URL; None: where clean-fid fetches it from.

    Raises:
        UserError: they cannot be fetched, or are not those that FID is defined on.
    """
    if _is_local(weights):
        return _checked(Path(str(weights)).expanduser())
    folder = cache_folder()
    if not (folder / WEIGHTS).is_file():
        _fetch(weights or inception_url, folder)
    return _checked(folder)


def describe_weights(weights: str | None) -> str:
    """Return where the weights are, or where they will be fetched from; nothing is fetched.

    Raises:
        UserError: a file is named that is missing, or is another one.
    """
    if _is_local(weights):
        return str(find_weights(weights) / WEIGHTS)
    here = cache_folder() / WEIGHTS
    return str(here) if here.is_file() else f"to be fetched once from {weights or inception_url} to {here}"


def cache_folder() -> Path:
    """Return where fetched weights are kept on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sfd-sweep"


def _is_local(weights: str | None) -> bool:
    return weights is not None and "://" not in weights


def _checked(path: Path) -> Path:
    file = path / WEIGHTS if path.is_dir() else path
    if file.name != WEIGHTS or not file.is_file():
        raise UserError(f"evaluation.inception.weights: there is no {WEIGHTS} at {path}; fetch it from {inception_url}")
    if _sha256(file) != SHA256:
        raise UserError(
            f"{file} is not the file that FID is defined on (its SHA-256 is not {SHA256[:12]}…); remove it and fetch "
            f"it again from {inception_url}"
        )
    return file.parent


def _fetch(url: str, folder: Path) -> None:
    from torch.hub import download_url_to_file

    try:
        if not answers(url):
            raise TimeoutError("the server does not answer")
        folder.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(folder / WEIGHTS), hash_prefix=SHA256, progress=False)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: it is another file
        raise UserError(
            f"Inception's weights could not be fetched from {url} ({error}); put {WEIGHTS} into {folder}, or name it "
            "in evaluation.inception.weights, or choose fd_classifier, which needs none"
        ) from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
