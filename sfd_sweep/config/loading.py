"""Search-space files: loading, dumping, and the JSON schema."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from sfd_sweep.config.config_errors import advice
from sfd_sweep.config.document import Document, Place
from sfd_sweep.config.error_messages import explain
from sfd_sweep.config.search_space import SearchSpace
from sfd_sweep.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def load_search_space(path: str | Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """Load a search-space file.

    Args:
        path: The file.
        overrides: `key.path=value` assignments with values in YAML, applied in order: `budget.trials=4`.

    Raises:
        UserError: The file cannot be read or is not a valid search space, or an override does not fit it.
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
        byte = content[error.start]
        raise UserError(f"{path}:{line}: byte {byte:#04x} is not UTF-8; save the file as UTF-8") from error
    return parse_search_space(text, str(path), overrides)


def parse_search_space(text: str, source: str, overrides: Sequence[str] = ()) -> SearchSpace:
    """Parse a search space from YAML; messages call the text `source`. See `load_search_space`."""
    document = Document.parse(text, source)
    if document.data is None:
        raise UserError(f"{source}: is empty; a search space needs at least {', '.join(json_schema()['required'])}")
    if not isinstance(document.data, dict):
        raise UserError(f"{document.place(()).name}: must be keys and values, such as `name: my-sweep`")
    for override in overrides:
        document.override(override)
    return _validated(SearchSpace, document)


def with_overrides(model: Model, overrides: Sequence[str]) -> Model:
    """Return a model with some fields changed.

    Args:
        model: Any model that survives a dump to JSON.
        overrides: `FIELD=VALUE` assignments with values in YAML. A field of a section may be given without the section
            if no other section has a field of that name: `alpha=1.0` for `settings.alpha=1.0`.

    Raises:
        UserError: There is no such field, or it cannot have the value.
    """
    document = Document(model.model_dump(mode="json"), {(): Place(0, "--set")})
    for override in overrides:
        document.override(override, section=_section(document.data, override))
    return _validated(type(model), document)


def _section(data: dict[str, Any], override: str) -> str | None:
    """Return the section of the field that an assignment names without it; None if the field has no section.

    Raises:
        UserError: No field has that name, or fields of several sections have it.
    """
    name = override.partition("=")[0].partition(".")[0].strip()
    if name in data or "=" not in override:
        return None
    sections = {key: value for key, value in data.items() if isinstance(value, dict)}
    found = [key for key, value in sections.items() if name in value]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"--set {override}: write {' or '.join(f'{section}.{name}' for section in found)}")
    fields = [*data, *(field for value in sections.values() for field in value)]
    raise UserError(f"--set {override}: unknown field {name!r}{advice(name, fields)}")


def _validated(model: type[Model], document: Document) -> Model:
    try:
        # JSON, because strict validation (no text for numbers, no booleans for integers) of Python data would also
        # reject lists for tuples and text for enums.
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        raise UserError(explain(error, document, model.model_json_schema())) from error


def dump_search_space(space: SearchSpace) -> str:
    """Return the search space as YAML with all defaults; parsing it gives an equal object."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _QuotingRepresenter
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None by its default
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(space.model_dump(mode="json"), stream)
    return stream.getvalue()


class _QuotingRepresenter(SafeRepresenter):
    """Quotes all text except plain words: ruamel leaves text bare that it does not read back, such as `?0`."""


def _represent_text(representer: SafeRepresenter, text: str) -> ScalarNode:
    style = None if re.fullmatch(r"[A-Za-z]([\w:./-]*\w)?", text, re.ASCII) else '"'
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_QuotingRepresenter.add_representer(str, _represent_text)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the file, for editors; it does not cover relations between keys, such as low ≤ high."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SearchSpace.model_json_schema()
