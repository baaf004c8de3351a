"""What pydantic finds wrong with a document, in one line for whoever wrote it."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sfd_sweep.config.config_errors import KeyPath, advice, dotted, nearest, one_of
from sfd_sweep.config.schema_index import Location, SchemaIndex
from sfd_sweep.config.yaml_document import Document

_MUST_BE = {
    "bool_type": "true or false",
    "dict_type": "a section of keys and values",
    "enum": "{expected}",
    "finite_number": "finite",
    "float_type": "a number",
    "greater_than": "above {gt:.15g}",
    "greater_than_equal": "{ge:.15g} or more",
    "int_type": "a whole number",
    "less_than": "below {lt:.15g}",
    "literal_error": "{expected}",
    "model_type": "a section of keys and values",
    "string_pattern_mismatch": "letters, digits, dots, dashes and underscores, beginning with a letter or digit",
    "string_too_long": "of at most {max_length} characters",
    "string_type": "text",
    "too_short": "a list with at least {min_length} in it",
    "tuple_type": "a list",
}

_MOVED: dict[KeyPath, str] = {("search", "trials"): "budget.trials"}
"""Keys of earlier versions, and what they are called now."""


def explain(error: ValidationError, document: Document, vocabulary: SchemaIndex) -> str:
    """`file:line: key.path: what is wrong`, for the first mistake in the document, and how many more there are.

    A missing key comes last: it is often the other half of a misspelt one.
    """
    mistakes = _by_path(error.errors(include_url=False), document.data)

    def order(path: KeyPath) -> tuple[bool, int]:
        return mistakes[path][0]["type"] == "missing", document.place(path).line

    first, *others = sorted(mistakes, key=order)
    more = f" (and {len(others)} more)" if others else ""
    where = filter(None, [document.place(first).name, dotted(first)])
    return f"{': '.join(where)}: {_phrase(mistakes[first], vocabulary)}{more}"


def _by_path(details: Iterable[ErrorDetails], data: Any) -> dict[KeyPath, list[ErrorDetails]]:
    """The errors at each path: several where every alternative of a union failed.

    Those at a section are left out if there are some inside it: they are what other alternatives, which the author
    did not mean, had to say.
    """
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in details:
        grouped.setdefault(_path(detail, data), []).append(detail)
    sections = {path[:depth] for path in grouped for depth in range(len(path))}
    return {path: errors for path, errors in grouped.items() if path not in sections}


def _path(detail: ErrorDetails, data: Any) -> KeyPath:
    """The error's location without the names of union alternatives, which pydantic mixes in and nobody wrote."""
    path: KeyPath = ()
    for part in detail["loc"]:
        if _has(data, part):
            data, path = data[part], (*path, part)
    match detail["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            return (*path, "type")
        case "missing" | "mistake" if path[-1:] != detail["loc"][-1:]:
            return path + detail["loc"][-1:]
    return path


def _has(data: Any, part: int | str) -> bool:
    return part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data))


def _phrase(errors: Sequence[ErrorDetails], vocabulary: SchemaIndex) -> str:
    error = errors[0]
    location, given = error["loc"], error["input"]
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "missing":
            return f"is missing ({vocabulary.meaning(location)})"
        case "extra_forbidden":
            return _unknown(location, vocabulary)
        case "union_tag_invalid" | "union_tag_not_found":
            types = vocabulary.types(location)
            return _must_be(types, given["type"], types) if "type" in given else f"is missing; use {one_of(types)}"
        case kind if kind not in _MUST_BE:  # a check's own words, or in the last resort pydantic's
            return error["msg"]
    words = [word for error in errors for word in re.findall("'(.*?)'", error.get("ctx", {}).get("expected", ""))]
    alternatives = [_MUST_BE[error["type"]].format(**error.get("ctx", {})).replace("'", "") for error in errors]
    return _must_be(alternatives, given, words)


def _unknown(location: Location, vocabulary: SchemaIndex) -> str:
    """`is x now` for a key of an earlier version, else which key it may have been meant for."""
    moved = _MOVED.get(tuple(location))
    return (
        f"is {moved} now; move it there"
        if moved
        else (f"unknown key{advice(str(location[-1]), vocabulary.keys(location[:-1]))}")
    )


def _must_be(alternatives: Sequence[str], given: Any, words: Sequence[str]) -> str:
    """`must be a or b, not c`, with the nearest of the words that may stand there."""
    shown = json.dumps(given, ensure_ascii=False)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"must be {one_of(alternatives)}, not {shown}{nearest(given, words) if isinstance(given, str) else ''}"
