"""The optional library transformers: imported where it is needed, without its progress bars and reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

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
