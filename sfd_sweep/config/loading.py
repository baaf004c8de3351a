"""From a search-space file to a `SearchSpace` and back."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from sfd_sweep.config.error_messages import explain
from sfd_sweep.config.schema import SearchSpace
from sfd_sweep.config.schema_index import SchemaIndex
from sfd_sweep.config.yaml_document import Document
from sfd_sweep.errors import UserError


def load_search_space(path: str | Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """Read a search-space file.

    Args:
        overrides: `key.path=value` each, the value in YAML, applied in order: `budget.trials=4`.

    Raises:
        UserError: the file cannot be read or is not a valid search space, or an override does not fit it.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the path of a search-space file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder; give the path of a search-space file in it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from error
    return parse_search_space(text, str(path), overrides)


def parse_search_space(text: str, source: str, overrides: Sequence[str] = ()) -> SearchSpace:
    """The search space in a YAML text.

    Args:
        source: what messages call the text.
        overrides: see `load_search_space`.

    Raises:
        UserError: the text is not a valid search space, or an override does not fit it.
    """
    document = Document.parse(text, source)
    if document.data is None:
        raise UserError(f"{source}: is empty; a search space needs at least {', '.join(json_schema()['required'])}")
    if not isinstance(document.data, dict):
        raise UserError(f"{document.place(()).name}: must be keys and values, such as `name: my-sweep`")
    for override in overrides:
        document.override(override)
    try:
        # By way of JSON, because only there strictness (no text for numbers, no booleans for integers) still lets
        # lists be tuples and words be enums.
        return SearchSpace.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        raise UserError(explain(error, document, SchemaIndex(json_schema()))) from error


def dump_search_space(space: SearchSpace) -> str:
    """The search space as YAML with every default written out; parsing it gives an equal object."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _QuotingRepresenter
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None by its default
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(space.model_dump(mode="json"), stream)
    return stream.getvalue()


class _QuotingRepresenter(SafeRepresenter):
    """Quotes every text but plain words: ruamel leaves some bare that it does not read back, such as `?0` in braces."""


def _represent_text(representer: SafeRepresenter, text: str) -> ScalarNode:
    style = None if re.fullmatch(r"[A-Za-z]([\w:./-]*\w)?", text, re.ASCII) else '"'
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_QuotingRepresenter.add_representer(str, _represent_text)


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors; it cannot say what lies between keys, such as low ≤ high."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SearchSpace.model_json_schema()
