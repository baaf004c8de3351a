"""The words that a file may use at a place, looked up in the file's JSON schema."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Location = Sequence[int | str]
"""Where pydantic found an error: a path, with the type of a `type: …` section after the section's own key."""


@dataclass(frozen=True)
class SchemaIndex:
    """A JSON schema as pydantic writes it, to be asked for what is known at a location."""

    schema: dict[str, Any]

    def keys(self, section: Location) -> list[str]:
        """The keys of a section."""
        return list(dict.fromkeys(key for node in self._at(section) for key in node.get("properties", ())))

    def types(self, section: Location) -> list[str]:
        """The types that a section may have where its `type` decides which keys it has."""
        return [_type(node) for node in self._at(section) if _type(node)]

    def meaning(self, key: Location) -> str:
        """The description of a key, or "" if it has none."""
        return next((node["description"] for node in self._at(key) if "description" in node), "")

    def _at(self, location: Location) -> list[dict[str, Any]]:
        nodes = list(self._alternatives(self.schema))
        for part in location:
            nodes = [found for node in _inside(nodes, part) for found in self._alternatives(node)]
        return nodes

    def _alternatives(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            yield from self._alternatives(self.schema["$defs"][node["$ref"].rpartition("/")[2]])
        elif union := node.get("anyOf") or node.get("oneOf"):
            for alternative in union:
                yield from self._alternatives({"description": node.get("description", "")} | alternative)
        else:
            yield node


def _inside(nodes: list[dict[str, Any]], part: int | str) -> list[dict[str, Any]]:
    if isinstance(part, int):
        return [node["items"] for node in nodes if "items" in node]
    children = [node["properties"][part] for node in nodes if part in node.get("properties", ())]
    return children or [node for node in nodes if _type(node) == part]


def _type(node: dict[str, Any]) -> str:
    """The fixed word that a section of this kind has as its `type`, if there is one."""
    return str(node.get("properties", {}).get("type", {}).get("const", ""))
