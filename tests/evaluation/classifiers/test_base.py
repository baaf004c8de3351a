"""What every classifier has: checks of images and classes, logits in the wanted order, and a hash."""

from collections.abc import Sequence

import pytest
import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.trainable import ResidualConfig

DIGITS = tuple("0123456789")
BACKWARDS = DIGITS[::-1]


@pytest.fixture
def resizing() -> Classifier:
    names = ("airplane", "bird", "cat")
    gray = {"channels": 1, "mean": (0.5,), "std": (0.5,)}
    return ResidualConfig(image_size=8, class_names=names, stem="small", widths=(4,), blocks=(1,), **gray).build()


def test_images_of_its_classes_and_its_shape_are_accepted_in_any_order_of_the_classes(classifier: Classifier) -> None:
    classifier.check_images(DIGITS, (1, 8, 8))
    classifier.check_images(BACKWARDS, (1, 8, 8))


def test_a_classifier_that_resizes_takes_images_of_any_size(resizing: Classifier) -> None:
    resizing.check_images(("airplane", "bird", "cat"), (1, 31, 17))
    assert resizing(torch.rand(2, 1, 31, 17)).shape == (2, 3)


@pytest.mark.parametrize(
    ("names", "shape", "words"),
    [
        (DIGITS[:3], (1, 8, 8), "knows 10 classes, not 3;"),
        ((*DIGITS, "ten"), (1, 8, 8), "knows 10 classes, not 11;"),
        ((*DIGITS[:9], "ten"), (1, 8, 8), "knows no class 'ten';"),
        ((*DIGITS[:9], "99"), (1, 8, 8), r"knows no class '99' \(the nearest is '9'\);"),
        ((*DIGITS[:9], "0"), (1, 8, 8), "the class '0' is there twice, so it is ambiguous"),
        (DIGITS, (3, 8, 8), "takes images of 1 channels, not of 3;"),
        (DIGITS, (1, 16, 16), "takes images of 8×8 pixels, not of 16×16;"),
        (DIGITS, (1, 8, 16), "takes images of 8×8 pixels, not of 8×16;"),
    ],
)
def test_other_images_are_refused_in_one_line(
    classifier: Classifier, names: Sequence[str], shape: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        classifier.check_images(names, shape)
    assert str(caught.value).startswith("the ")
    assert "\n" not in str(caught.value)


def test_a_refusal_says_which_classifier_it_was(classifier: Classifier) -> None:
    with pytest.raises(UserError, match="^the classifier builtin:digits knows"):
        classifier.check_images(DIGITS[:2], (1, 8, 8))


def test_classes_in_another_order_give_the_same_logits_reordered(classifier: Classifier, digits: LabeledImages) -> None:
    backwards = classifier.for_classes(BACKWARDS)
    images = digits.images[:30]
    assert backwards.class_names == BACKWARDS
    assert torch.equal(backwards(images), classifier(images).flip(1))
    assert torch.equal(backwards.features(images), classifier.features(images))
    called = [backwards.class_names[index] for index in backwards(images).argmax(1)]
    assert called == [classifier.class_names[index] for index in classifier(images).argmax(1)]


def test_the_order_is_part_of_the_hash_and_refusals_stay_the_same(classifier: Classifier) -> None:
    backwards = classifier.for_classes(BACKWARDS)
    assert backwards.content_hash() != classifier.content_hash()
    assert backwards.for_classes(BACKWARDS).content_hash() == backwards.content_hash()
    with pytest.raises(UserError, match="^the classifier builtin:digits takes images of 8×8"):
        backwards.check_images(BACKWARDS, (1, 16, 16))


def test_a_classifier_in_the_wanted_order_is_left_as_it_is(classifier: Classifier) -> None:
    assert classifier.for_classes(list(DIGITS)) is classifier


def test_other_classes_have_no_order(classifier: Classifier) -> None:
    with pytest.raises(UserError, match="knows 10 classes, not 2"):
        classifier.for_classes(("0", "1"))


def test_the_weights_are_hashed_once_however_often_the_hash_is_asked_for(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    state_dict = classifier.state_dict

    def counted() -> dict[str, torch.Tensor]:
        read.append(1)
        return state_dict()

    monkeypatch.setattr(classifier, "state_dict", counted)
    assert classifier.content_hash() == classifier.content_hash()
    assert len(read) == 1
