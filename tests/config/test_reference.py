"""The generated reference of the search-space file."""

from pathlib import Path
from typing import get_args

from sfd_sweep.config import json_schema
from sfd_sweep.config.reference import search_space_reference
from sfd_sweep.config.schema import SAMPLERS, Sampler
from sfd_sweep.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "search-space.md"


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    remedy = "run `sfd-sweep schema --markdown > docs/search-space.md`"
    assert PAGE.read_text(encoding="utf-8") == search_space_reference(), remedy


def test_every_key_and_metric_has_a_row() -> None:
    schema, rows = (
        json_schema(),
        {line.split("`")[1] for line in search_space_reference().splitlines() if "| `" in line},
    )
    keys = {key for node in (schema, *schema["$defs"].values()) for key in node.get("properties", ())}
    assert (keys - {"type"}) | METRICS.keys() <= rows


def test_every_sampler_is_described() -> None:
    assert tuple(SAMPLERS) == get_args(Sampler)
