"""The optional library transformers: imported where it is needed, quiet, and its errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from sfd_sweep.errors import UserError


def transformers_for(what: str) -> ModuleType:
    """Import transformers.

    Args:
        what: what needs it, as the beginning of a sentence: "X is a classifier of transformers".

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"{what}, which is not installed: pip install 'sfd-sweep[transformers]'") from error
    module: ModuleType = transformers
    return module


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the library's progress bars and reports; what matters of them is an error here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def from_transformers(folder: Path, class_name: str, *, what: str, **options: Any) -> Any:
    """Return the part of a model that is in a folder, such as its tokenizer; no code from the folder is run.

    Args:
        folder: of transformers' format.
        class_name: of the part, in transformers.
        what: the folder should hold, in words.
        options: further ones of `from_pretrained`.

    Raises:
        UserError: transformers is not installed, or the part is missing or broken.
    """
    library = transformers_for(f"{folder} is of transformers")
    try:
        with quiet_transformers():
            return getattr(library, class_name).from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **options
            )
    except (OSError, ValueError, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no {what} that transformers can load: {reason}") from error


def model_from_transformers(folder: Path, class_name: str, *, what: str, **options: Any) -> Any:
    """Return the model in a folder as `from_transformers` does, with all of its weights."""
    model, loaded = from_transformers(
        folder, class_name, what=what, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    # transformers fills weights that it does not find with random ones.
    random = sorted({*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])})
    if random:
        raise UserError(
            f"{folder}: its weights do not fit its config.json ({random[0]} is missing or of another shape); it is no "
            f"{what}, or was not fetched completely"
        )
    return model
