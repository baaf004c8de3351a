"""Mistakes that the models' own checks find: where in the file, and in which words."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

KeyPath = tuple[int | str, ...]


class ConfigError(NamedTuple):
    """Something wrong at a key: the path from the model that is being checked, and what must be otherwise."""

    path: KeyPath
    message: str


def raise_config_errors(mistakes: Iterable[ConfigError]) -> None:
    """Inside a validator, report each mistake at its own path, as pydantic does those of single fields.

    Raises:
        pydantic.ValidationError: there is a mistake.
    """
    details = [
        InitErrorDetails(type=PydanticCustomError("mistake", "{message}", {"message": message}), loc=path, input=None)
        for path, message in mistakes
    ]
    if details:
        raise ValidationError.from_exception_data("mistakes", details)


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean x?` with the word most like the given one, or nothing if none is."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def advice(word: str, words: Iterable[str]) -> str:
    """`; did you mean x?`, or all the words if none is near."""
    return nearest(word, words) or f"; use {one_of(words)}"


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def dotted(path: KeyPath) -> str:
    """The path as messages and `--set` write it: `objectives.0.reference_point`."""
    return ".".join(map(str, path))
