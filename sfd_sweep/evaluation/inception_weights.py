"""The file with Inception-V3's weights: where it is, and how it is fetched. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from cleanfid.downloads_helper import inception_url

from sfd_sweep.errors import UserError

WEIGHTS = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
TIMEOUT = 10  # seconds without an answer


def find_weights(weights: str | None) -> Path:
    """The folder that holds the weights on this machine.

    Raises:
        UserError: they are missing and cannot be fetched, or are not those that FID is defined on.
    """
    if weights is not None and "://" not in weights:
        return _checked(Path(weights).expanduser())
    folder = cache_folder()
    if not (folder / WEIGHTS).is_file():
        _fetch(weights or inception_url, folder)
    return _checked(folder)


def describe_weights(weights: str | None) -> str:
    """Where the weights are, or where they will be fetched from; nothing is fetched.

    Raises:
        UserError: a file is named that is not there, or is another one.
    """
    if weights is not None and "://" not in weights:
        return str(find_weights(weights) / WEIGHTS)
    here = cache_folder() / WEIGHTS
    return str(here) if here.is_file() else f"to be fetched once from {weights or inception_url} to {here}"


def cache_folder() -> Path:
    """Where fetched weights are kept on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sfd-sweep"


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            part = Path(scratch) / WEIGHTS
            with urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file)
            _checked(part)
            part.replace(folder / WEIGHTS)
    except (URLError, OSError, ValueError) as error:
        raise UserError(
            f"Inception's weights could not be fetched from {url} ({error}); put {WEIGHTS} into {folder}, or name it "
            "in evaluation.inception.weights, or choose fd_classifier, which needs none"
        ) from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
