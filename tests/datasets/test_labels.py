"""Class labels: found by what a user calls them, and put into a model's order by name."""

import numpy as np
import pytest

from sfd_sweep.datasets.labels import class_index, name_classes
from sfd_sweep.errors import UserError

CIFAR = ("airplane", "automobile", "bird", "cat", "deer")


@pytest.mark.parametrize(("wanted", "index"), [(0, 0), (4, 4), ("airplane", 0), ("cat", 3), ("3", 3)])
def test_a_class_is_found_by_index_by_name_and_by_index_as_text(wanted: int | str, index: int) -> None:
    assert class_index(CIFAR, wanted) == index


def test_a_name_wins_over_an_index_written_as_text() -> None:
    names = ("7", "0", "3")
    assert class_index(names, "0") == 1
    assert class_index(names, 0) == 0


@pytest.mark.parametrize("wanted", ["airplan", "Airplane", "AIRPLANES"])
def test_a_mistyped_name_is_answered_with_the_nearest(wanted: str) -> None:
    with pytest.raises(UserError, match=f"no class '{wanted}'; did you mean 'airplane'"):
        class_index(CIFAR, wanted)


@pytest.mark.parametrize("wanted", [-1, 5, "5", "-1", "", "zebra crossing", "1.0", "²"])
def test_what_is_no_class_is_answered_with_the_classes(wanted: int | str) -> None:
    with pytest.raises(UserError, match=r"the classes are 0 \(airplane\), .*, 4 \(deer\)"):
        class_index(CIFAR, wanted)


IMAGENET = ("tench, Tinca tinca", "crane", "missile", "projectile, missile", "crane", "pug, pug-dog", "mug, pug")


@pytest.mark.parametrize(
    ("wanted", "index"), [("tench", 0), ("Tinca tinca", 0), ("tench, Tinca tinca", 0), ("missile", 2), ("mug", 6)]
)
def test_of_a_name_that_lists_several_one_will_do(wanted: str, index: int) -> None:
    """A whole name comes first: "missile" is class 2, and one of two names of class 3."""
    assert class_index(IMAGENET, wanted) == index


@pytest.mark.parametrize(("wanted", "classes"), [("crane", "1 (crane), 4 (crane)"), ("pug", "5 (pug, pug-dog), 6")])
def test_a_name_of_several_classes_is_refused(wanted: str, classes: str) -> None:
    with pytest.raises(UserError) as caught:
        class_index(IMAGENET, wanted)
    assert f"several classes are called {wanted!r}: {classes}" in str(caught.value)


def test_a_mistyped_part_of_a_name_is_answered_with_the_nearest_part() -> None:
    with pytest.raises(UserError, match="did you mean 'tench'"):
        class_index(IMAGENET, "Tensch")


def test_a_thousand_classes_are_not_listed() -> None:
    names = [f"class number {index}" for index in range(1000)]
    with pytest.raises(UserError, match="index from 0 to 999 or a name") as caught:
        class_index(names, 1000)
    assert len(str(caught.value)) < 120


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
