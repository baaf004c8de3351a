"""How a split is named."""

from pathlib import Path

import pytest

from sfd_sweep.datasets.stored import choose, parse_source, split_of_file
from sfd_sweep.errors import UserError


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("a/b", ("a/b", None)),
        ("a/b:test", ("a/b", "test")),
        ("/a b/c:all", ("/a b/c", "all")),
        ("a:b:validation", ("a:b", "validation")),
        ("a:b", ("a:b", None)),
        ("C:\\images", ("C:\\images", None)),
        (":test", (":test", None)),
        ("", ("", None)),
    ],
)
def test_a_split_stands_after_the_last_colon(source: str, parsed: tuple[str, str | None]) -> None:
    assert parse_source(source) == parsed


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("test-00003-of-00010-0123abcd.parquet", "test"),
        ("validation.parquet", "validation"),
        ("valid_1.parquet", "validation"),
        ("Test_batch.parquet", "test"),
        ("training.parquet", None),
        ("trains-00000-of-00001.parquet", None),
        ("0000.parquet", None),
        ("images.parquet", None),
    ],
)
def test_a_files_split_is_the_first_word_of_its_name(name: str, split: str | None) -> None:
    assert split_of_file(name) == split


PARTS = [("test", "a"), ("train", "b"), (None, "c"), ("train", "d")]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, ("b", "c", "d")), ("train", ("b", "c", "d")), ("test", ("a", "c")), ("all", ("a", "b", "c", "d"))],
)
def test_what_has_no_split_belongs_to_every_one(wanted: str | None, chosen: tuple[str, ...]) -> None:
    assert choose(PARTS, wanted, Path("x")) == chosen


def test_without_splits_everything_is_meant() -> None:
    assert choose([(None, "a"), (None, "b")], None, Path("x")) == ("a", "b")


def test_a_split_that_is_missing_is_refused() -> None:
    with pytest.raises(UserError, match="x has no split 'validation'; name one that it has, as in x:train"):
        choose(PARTS, "validation", Path("x"))
