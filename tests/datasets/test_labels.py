import pytest

from sfd_sweep.datasets.labels import class_index
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
