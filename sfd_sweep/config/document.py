"""YAML documents as plain data that records where each key was written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from sfd_sweep.config.config_errors import KeyPath, dotted
from sfd_sweep.errors import UserError

_STANDARD = "tag:yaml.org,2002:"
_CONSTRUCTED = {_STANDARD + name for name in ("null", "bool", "int", "float")}
_TEXT = {_STANDARD + name for name in ("str", "timestamp", "merge", "value")}
_CONTAINERS = {_STANDARD + name for name in ("map", "seq")}
_MAX_DEPTH = 20  # an alias inside its own anchor never ends


class Place(NamedTuple):
    """Where a value was written: its line (0 for the command line), and the name of the place in messages."""

    line: int
    name: str


@dataclass
class Document:
    """A YAML document as dicts, lists, and scalars, with the place of each path."""

    data: Any
    places: dict[KeyPath, Place]

    @classmethod
    def parse(cls, text: str, source: str) -> "Document":
        """Parse YAML 1.2; messages call the text `source`.

        Raises:
            UserError: The text is not valid YAML, repeats a key, or uses a tag.
        """
        return _parse(text, lambda line: Place(line, f"{source}:{line}"))

    def place(self, path: KeyPath) -> Place:
        """Return the place of the path, or of the innermost section around it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def override(self, assignment: str, section: str | None = None) -> None:
        """Apply `key.path=value` (such as `objectives.0.reference_point=5`), with the value in YAML.

        Missing sections are created; validation decides whether they are allowed.

        Args:
            assignment: The path and the value.
            section: Section that the path starts in; None is the root.

        Raises:
            UserError: The text is no assignment, its value is not valid YAML, or the path leads through a scalar or
                past the end of a list.
        """
        place = Place(0, f"--set {' '.join(assignment.split())}")
        name, equals, text = assignment.partition("=")
        if not (name.strip() and equals):
            raise UserError(f"{place.name}: write KEY=VALUE, with the value in YAML")
        value = _parse(text, lambda _: place)
        container, path = self.data, KeyPath()
        *sections, last = [*([section] if section else []), *name.strip().split(".")]
        for part in sections:
            key = _key(container, path, part, place)
            path = (*path, key)
            self.places.setdefault(path, place)
            container = container.setdefault(key, {}) if isinstance(container, dict) else container[key]
        key = _key(container, path, last, place)
        container[key] = value.data
        path = (*path, key)
        self.places = {other: found for other, found in self.places.items() if other[: len(path)] != path}
        self.places |= {(*path, *inner): found for inner, found in value.places.items()}


def _key(container: Any, path: KeyPath, part: str, place: Place) -> int | str:
    """Convert a part of a dotted path to a key of the container at `path`."""
    if isinstance(container, dict):
        return part
    if not isinstance(container, list):
        raise UserError(f"{place.name}: {dotted(path)} is {json.dumps(container)}, so it has no key {part!r}")
    if not part.isdecimal() or int(part) >= len(container):
        raise UserError(f"{place.name}: {dotted(path)} is a list of {len(container)}; use an index from 0")
    return int(part)


def _parse(text: str, place_of: Callable[[int], Place]) -> Document:
    reader = _Reader(place_of)
    try:
        node = reader.yaml.compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        context = f" ({error.context} that begins in line {error.context_mark.line + 1})" if error.context_mark else ""
        raise UserError(f"{place_of(line).name}: not valid YAML: {error.problem}{context}") from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(f"{place_of(line).name}: not valid YAML: control characters are not allowed") from error
    except RecursionError as error:
        raise UserError(f"{place_of(1).name}: nested too deeply") from error
    data = None if node is None else reader.read(node, ())
    return Document(data, {(): place_of(1)} | reader.places)


@dataclass
class _Reader:
    """Converts YAML nodes to data and records the place of each path.

    ruamel's round-trip loader has positions too (`.lc`), but it loads an anchored `true` as 1 and an alias inside its
    own anchor as null.
    """

    place_of: Callable[[int], Place]
    yaml: YAML = field(default_factory=lambda: YAML(typ="safe", pure=True))
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def read(self, node: Node, path: KeyPath) -> Any:
        if node.tag not in _CONSTRUCTED | _TEXT | _CONTAINERS:
            raise self._error(node, f"the tag {node.tag} is not supported; remove it")
        if len(path) > _MAX_DEPTH:
            raise self._error(node, "nested too deeply")
        self.places.setdefault(path, self._place(node))
        match node:
            case MappingNode():
                return self._mapping(node, path)
            case SequenceNode():
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return node.value if node.tag in _TEXT else self._scalar(node)

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        section: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key must be a single word")
            inner = (*path, key.value)
            if key.value in section:
                raise self._error(key, f"{dotted(inner)}: duplicate key; remove one")
            self.places[inner] = self._place(key)
            section[key.value] = self.read(value, inner)
        return section

    def _scalar(self, node: Node) -> Any:
        try:
            return self.yaml.constructor.construct_object(node)
        except (KeyError, ValueError) as error:  # a tag that does not fit, or too many digits
            kind = str(node.tag).removeprefix(_STANDARD)
            raise self._error(node, f"the value cannot be read as {kind}") from error

    def _place(self, node: Node) -> Place:
        return self.place_of(node.start_mark.line + 1)

    def _error(self, node: Node, message: str) -> UserError:
        return UserError(f"{self._place(node).name}: {message}")
