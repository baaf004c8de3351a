"""YAML text as plain data that remembers where each key was written."""

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
_AS_WRITTEN = {_STANDARD + name for name in ("str", "timestamp", "merge", "value")}
_CONTAINERS = {_STANDARD + name for name in ("map", "seq")}


class Place(NamedTuple):
    """Where something was written: its line (0 on the command line), and what messages call the place."""

    line: int
    name: str


_ROOT: KeyPath = ()
_DEEPEST = 20  # an alias inside its own anchor would have no end


@dataclass
class Document:
    """A YAML document as dicts, lists and scalars, with the place where each path was written."""

    data: Any
    places: dict[KeyPath, Place]

    @classmethod
    def parse(cls, text: str, source: str) -> "Document":
        """Read YAML 1.2.

        Args:
            source: what messages call the text: its file's path.

        Raises:
            UserError: the text is not YAML, has a key twice, or uses a tag.
        """
        return _parse(text, lambda line: Place(line, f"{source}:{line}"))

    def place(self, path: KeyPath) -> Place:
        """Where the path was written; if it was not, where the innermost section around it was."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def override(self, assignment: str) -> None:
        """Put another value at a path: `budget.trials=4`, `objectives.0.reference_point=5`; the value is YAML.

        Sections that are not there yet are made; whether they may be there is not for the document to say.

        Raises:
            UserError: it is no assignment, its value is not YAML, or the path leads through a value or past a list.
        """
        place = Place(0, f"--set {' '.join(assignment.split())}")
        name, equals, text = assignment.partition("=")
        if not (name.strip() and equals):
            raise UserError(f"{place.name}: write KEY=VALUE, such as budget.trials=4")
        value = _parse(text, lambda _: place)
        *sections, last = name.strip().split(".")
        container, path = self.data, _ROOT
        for part in sections:
            container, path = self._enter(container, path, part, place)
        key = _key(container, path, last, place)
        container[key] = value.data
        self._forget((*path, key))
        self.places |= {(*path, key, *inner): where for inner, where in value.places.items()}

    def _enter(self, container: Any, path: KeyPath, part: str, place: Place) -> tuple[Any, KeyPath]:
        """One step along a dotted path, into a section that is made if it is not there."""
        key = _key(container, path, part, place)
        inner = (*path, key)
        self.places.setdefault(inner, place)
        return (container.setdefault(key, {}) if isinstance(container, dict) else container[key]), inner

    def _forget(self, path: KeyPath) -> None:
        self.places = {other: place for other, place in self.places.items() if other[: len(path)] != path}


def _key(container: Any, path: KeyPath, part: str, place: Place) -> int | str:
    """The part of a dotted path as a key of the container at `path`, which it leads into."""
    if isinstance(container, dict):
        return part
    if not isinstance(container, list):
        raise UserError(f"{place.name}: {dotted(path)} is {json.dumps(container)}, so it has no {part!r} to set")
    if not part.isdecimal() or int(part) >= len(container):
        raise UserError(f"{place.name}: {dotted(path)} is a list of {len(container)}; use an index, the first is 0")
    return int(part)


def _parse(text: str, place_of: Callable[[int], Place]) -> Document:
    reader = _Reader(place_of)
    try:
        node = reader.yaml.compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        begun = f" ({error.context} that begins in line {error.context_mark.line + 1})" if error.context_mark else ""
        raise UserError(f"{place_of(line).name}: not valid YAML: {error.problem}{begun}") from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(f"{place_of(line).name}: not valid YAML: a control character is not allowed") from error
    except RecursionError as error:
        raise UserError(f"{place_of(1).name}: nested too deeply") from error
    data = None if node is None else reader.read(node, _ROOT)
    return Document(data, {_ROOT: place_of(1)} | reader.places)


@dataclass
class _Reader:
    """Turns YAML nodes into data and notes the place of each path."""

    place_of: Callable[[int], Place]
    yaml: YAML = field(default_factory=lambda: YAML(typ="safe", pure=True))
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def read(self, node: Node, path: KeyPath) -> Any:
        if node.tag not in _CONSTRUCTED | _AS_WRITTEN | _CONTAINERS:
            raise self._error(node, f"the tag {node.tag} means nothing here; remove it")
        if len(path) > _DEEPEST:
            raise self._error(node, "nested too deeply")
        self.places.setdefault(path, self._place(node))
        match node:
            case MappingNode():
                return self._mapping(node, path)
            case SequenceNode():
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        section: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key must be a single word")
            inner = (*path, key.value)
            if key.value in section:
                raise self._error(key, f"{dotted(inner)}: is there already; remove one")
            self.places[inner] = self._place(key)
            section[key.value] = self.read(value, inner)
        return section

    def _scalar(self, node: Node) -> Any:
        if node.tag in _AS_WRITTEN:
            return node.value
        try:
            return self.yaml.constructor.construct_object(node)
        except (KeyError, ValueError) as error:  # a tag that does not fit, or too many digits
            kind = str(node.tag).removeprefix(_STANDARD)
            raise self._error(node, f"a value that cannot be read as {kind}") from error

    def _place(self, node: Node) -> Place:
        return self.place_of(node.start_mark.line + 1)

    def _error(self, node: Node, message: str) -> UserError:
        return UserError(f"{self._place(node).name}: {message}")
