"""One line for what pydantic finds wrong with a document."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sfd_sweep.config.config_errors import KeyPath, advice, dotted, nearest, one_of
from sfd_sweep.config.document import Document

JsonSchema = dict[str, Any]
Location = Sequence[int | str]
"""Where pydantic found an error: a path, with the names of union alternatives mixed in."""

_MESSAGES = {
    "string_pattern_mismatch": "must consist of letters, digits, dots, dashes, and underscores, and begin with a "
    "letter or digit",
    "too_short": "must have at least {min_length} entry",
}
_WORDS = {"an object": "a mapping", "a valid array": "a list"}
"""YAML's words for JSON's."""

_MOVED: dict[KeyPath, str] = {("search", "trials"): "budget.trials"}
"""Keys of earlier versions, and their names now."""


def explain(error: ValidationError, document: Document, schema: JsonSchema) -> str:
    """Return `file:line: key: message` for the first error in the document, and the number of other errors.

    A missing key comes last: it is often the other half of a misspelled one.
    """
    errors = _by_path(error.errors(include_url=False), document.data)

    def order(path: KeyPath) -> tuple[bool, int]:
        return errors[path][0]["type"] == "missing", document.place(path).line

    first, *others = sorted(errors, key=order)
    more = f" (and {len(others)} more)" if others else ""
    where = filter(None, [document.place(first).name, dotted(first)])
    return f"{': '.join(where)}: {_message(errors[first], schema)}{more}"


def _by_path(details: Iterable[ErrorDetails], data: Any) -> dict[KeyPath, list[ErrorDetails]]:
    """Group the errors by path: a path has several if every alternative of a union failed.

    An error at a section is left out if there are errors inside the section: it is about other alternatives.
    """
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in details:
        grouped.setdefault(_path(detail, data), []).append(detail)
    sections = {path[:depth] for path in grouped for depth in range(len(path))}
    return {path: errors for path, errors in grouped.items() if path not in sections}


def _path(detail: ErrorDetails, data: Any) -> KeyPath:
    """Return the error's location without the names of union alternatives."""
    path: KeyPath = ()
    for part in detail["loc"]:
        if part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data)):
            data, path = data[part], (*path, part)
    match detail["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            return (*path, "type")
        case "missing" | "config_error" if path[-1:] != detail["loc"][-1:]:
            return path + detail["loc"][-1:]
    return path


def _message(errors: Sequence[ErrorDetails], schema: JsonSchema) -> str:
    """Return what is wrong at one path."""
    error = errors[0]
    location, given, context = error["loc"], error["input"], error.get("ctx", {})
    match error["type"]:
        case "value_error":
            text = str(context["error"])
        case "missing":
            text = f"is missing ({_description(schema, location)})"
        case "extra_forbidden" if tuple(location) in _MOVED:
            text = f"is {_MOVED[tuple(location)]} now; move it there"
        case "extra_forbidden":
            text = f"unknown key{advice(str(location[-1]), _keys(schema, location[:-1]))}"
        case "union_tag_invalid" | "union_tag_not_found":
            types = [kind for node in _nodes(schema, location) if (kind := _type(node))]
            text = _must_be(types, given["type"], types) if "type" in given else f"is missing; use {one_of(types)}"
        case kind if kind in _MESSAGES:
            text = f"{_MESSAGES[kind].format(**context)}, not {_shown(given)}"
        case _:
            text = _in_pydantics_words(errors)
    return text


def _in_pydantics_words(errors: Sequence[ErrorDetails]) -> str:
    """Join the messages of the alternatives, which begin with "Input should be", or return the first message."""
    wanted = [error["msg"].removeprefix("Input should be ") for error in errors]
    if wanted[0] == errors[0]["msg"]:
        return wanted[0]
    words = [word for error in errors for word in re.findall("'(.*?)'", error.get("ctx", {}).get("expected", ""))]
    return _must_be([_WORDS.get(text, text.replace("'", "")) for text in wanted], errors[0]["input"], words)


def _must_be(alternatives: Iterable[str], given: Any, words: Sequence[str]) -> str:
    """Return `must be a or b, not c`, with the most similar of the possible words."""
    return (
        f"must be {one_of(alternatives)}, not {_shown(given)}{nearest(given, words) if isinstance(given, str) else ''}"
    )


def _shown(given: Any) -> str:
    text = json.dumps(given, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(schema: JsonSchema, section: Location) -> list[str]:
    return list(dict.fromkeys(key for node in _nodes(schema, section) for key in node.get("properties", ())))


def _description(schema: JsonSchema, key: Location) -> str:
    found = next((node["description"] for node in _nodes(schema, key) if "description" in node), "")
    return " ".join(found.split()).rstrip(".")


def _nodes(schema: JsonSchema, location: Location) -> list[JsonSchema]:
    """Return the nodes of the JSON schema at a location: one for each alternative of a union."""
    nodes = list(_alternatives(schema, schema))
    for part in location:
        inner = [node["items"] for node in nodes if "items" in node] if isinstance(part, int) else _inside(nodes, part)
        nodes = [found for node in inner for found in _alternatives(schema, node)]
    return nodes


def _alternatives(schema: JsonSchema, node: JsonSchema) -> Iterator[JsonSchema]:
    if "$ref" in node:
        yield from _alternatives(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    elif union := node.get("anyOf") or node.get("oneOf"):
        for alternative in union:
            yield from _alternatives(schema, {"description": node.get("description", "")} | alternative)
    else:
        yield node


def _inside(nodes: Sequence[JsonSchema], part: str) -> list[JsonSchema]:
    """Return the nodes of a key, or, if no node has the key, those of the alternative with that `type`."""
    children = [node["properties"][part] for node in nodes if part in node.get("properties", ())]
    return children or [node for node in nodes if _type(node) == part]


def _type(node: JsonSchema) -> str:
    """Return the fixed `type` of a section, or "" if it has none."""
    return str(node.get("properties", {}).get("type", {}).get("const", ""))
