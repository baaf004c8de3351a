"""Pickle files that hold arrays, read without running what a stranger may have put into them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError

_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),  # how Python 3 writes bytes for Python 2
}
_MALFORMED = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError, ValueError)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        module = module_name.replace("numpy.core", "numpy._core")  # as NumPy 1 called it
        if (module, global_name) not in _ARRAYS:
            raise _Foreign(f"{module_name}.{global_name}")
        return super().find_class(module, global_name)


class _Foreign(Exception):
    """A pickle asks for something else than arrays."""


def unpickle_arrays(file: Path) -> Any:
    """What a pickle file holds: arrays, numbers, strings, and lists and dictionaries of these.

    Text that Python 2 wrote is read as Latin-1, as torchvision does.

    Raises:
        UserError: it asks for anything else, or is no pickle file.
    """
    try:
        with file.open("rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except _Foreign as error:
        raise UserError(
            f"{file} asks for {error}, where only arrays belong: it was not read, as that may run foreign code; fetch "
            "it from a place that you trust"
        ) from error
    except _MALFORMED as error:
        raise UserError(f"{file} is no whole pickle file; fetch it again") from error
