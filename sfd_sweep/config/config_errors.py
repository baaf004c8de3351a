"""Errors that the models' own checks find, and the words for them."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

KeyPath = tuple[int | str, ...]


class ConfigError(NamedTuple):
    """An error at a key, given by its path from the model under validation."""

    path: KeyPath
    message: str


def raise_config_errors(errors: Iterable[ConfigError]) -> None:
    """Report each error at its own path; to be called in a validator.

    Raises:
        pydantic.ValidationError: There is an error.
    """
    details = [
        InitErrorDetails(type=PydanticCustomError("config_error", "{message}", {"message": text}), loc=path, input=None)
        for path, text in errors
    ]
    if details:
        raise ValidationError.from_exception_data("config", details)


def raise_config_error(path: KeyPath, message: str) -> NoReturn:
    """Report one error; see `raise_config_errors`."""
    raise_config_errors([ConfigError(path, message)])
    raise AssertionError


def nearest(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean x?` for the most similar of the words, or "" if none is similar."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def advice(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean x?` for the most similar of the words, or all words if none is similar."""
    words = list(words)
    return nearest(word, words) or f"; use {one_of(words)}"


def one_of(words: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def dotted(path: KeyPath) -> str:
    """Return the path as messages and `--set` write it: `objectives.0.reference_point`."""
    return ".".join(map(str, path))
