import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import accuracy_score

from sfd_sweep.evaluation.forgetting_metrics import (
    forget_entropy,
    forget_probability,
    override_rate,
    retain_accuracy,
    unlearning_accuracy,
)


@pytest.fixture
def probabilities() -> torch.Tensor:
    return (torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 3).double().softmax(1)


def test_unlearning_accuracy_is_one_minus_the_accuracy_on_the_forgotten_class(probabilities: torch.Tensor) -> None:
    called = probabilities.argmax(1)
    expected = 1 - accuracy_score(np.full(200, 2), called)
    assert 0 < expected < 1
    assert unlearning_accuracy(called, [2]) == pytest.approx(expected)


def test_a_forgotten_class_in_anothers_place_is_not_unlearned() -> None:
    called = torch.tensor([0, 1, 2, 3])
    assert unlearning_accuracy(called, [0, 1]) == 0.5


@pytest.mark.parametrize(("called", "expected"), [([0, 0], 0.0), ([1, 2], 1.0)])
def test_unlearning_accuracy_is_zero_when_all_stay_and_one_when_none_does(called: list[int], expected: float) -> None:
    assert unlearning_accuracy(torch.tensor(called), [0]) == expected


def test_override_rate_counts_for_each_sample_its_own_overrides() -> None:
    called = torch.tensor([3, 3, 4, 4])
    assert override_rate(called, torch.tensor([[3], [4], [3], [4]])) == 0.5
    assert override_rate(called, torch.tensor([3, 4]).expand(4, 2)) == 1.0


def test_retain_accuracy_is_the_accuracy(probabilities: torch.Tensor) -> None:
    conditions = torch.arange(200) % 5
    called = probabilities.argmax(1)
    assert retain_accuracy(called, conditions.unsqueeze(1)) == pytest.approx(accuracy_score(conditions, called))


def test_a_condition_with_several_classes_of_its_own_is_met_by_any() -> None:
    called = torch.tensor([0, 1, 2, 3])
    assert retain_accuracy(called, torch.tensor([[0, 0], [0, 1], [0, 1], [3, 4]])) == 0.75


def test_forget_probability_is_the_mean_mass_on_the_forgotten_classes(probabilities: torch.Tensor) -> None:
    assert forget_probability(probabilities, [1]) == pytest.approx(probabilities.numpy()[:, 1].mean())
    assert forget_probability(probabilities, range(5)) == pytest.approx(1)


def test_forget_entropy_is_scipys_in_nats(probabilities: torch.Tensor) -> None:
    expected = scipy.stats.entropy(probabilities.numpy(), axis=1).mean()
    assert forget_entropy(probabilities) == pytest.approx(expected)
    assert forget_entropy(torch.eye(5).double()) == 0
