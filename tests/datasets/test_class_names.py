"""Labels in a model's order: a class is the one of that name."""

import numpy as np
import pytest

from sfd_sweep.datasets.class_names import name_classes
from sfd_sweep.errors import UserError

LABELS = np.array([0, 2, 1, 1, 0])


def test_labels_are_renumbered_by_name() -> None:
    own, given = ("cat", "dog", "emu"), ("emu", "cat", "dog")
    labels, names = name_classes(LABELS, own, given)
    assert names == given
    assert [given[label] for label in labels] == [own[label] for label in LABELS]
    assert labels.dtype == np.int64


@pytest.mark.parametrize("own", [None, ("a", "b", "c")])
def test_without_given_names_the_labels_stay(own: tuple[str, ...] | None) -> None:
    labels, names = name_classes(LABELS, own, None)
    np.testing.assert_array_equal(labels, LABELS)
    assert names == (own or ("0", "1", "2"))


def test_labels_without_names_take_the_given_ones_and_some_may_be_unused() -> None:
    labels, names = name_classes(LABELS, None, ("a", "b", "c", "d"))
    np.testing.assert_array_equal(labels, LABELS)
    assert names == ("a", "b", "c", "d")


def test_labels_beyond_the_given_names_are_counted() -> None:
    with pytest.raises(UserError, match="3 of 5 labels name no class: there are 1 classes, and labels up to 2"):
        name_classes(LABELS, None, ("a",))


@pytest.mark.parametrize(
    ("own", "given", "words"),
    [
        (("a", "b", "c"), ("a", "b", "x"), "the images have no class 'x'"),
        (("a", "b", "c"), ("a", "b"), "the model has no class 'c'"),
        (("a", "b"), ("a", "b", "c"), "the images have no class 'c'"),
        (("a", "a", "b"), ("a", "b"), "two classes of the images have the same name"),
        (("a", "a", "b"), ("a", "b", "b"), "two classes of the images have the same name"),
    ],
)
def test_names_of_other_classes_are_refused(own: tuple[str, ...], given: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        name_classes(LABELS, own, given)


def test_names_in_the_same_order_fit_even_if_two_are_equal() -> None:
    labels, _ = name_classes(LABELS, ("crane", "emu", "crane"), ("crane", "emu", "crane"))
    np.testing.assert_array_equal(labels, LABELS)
