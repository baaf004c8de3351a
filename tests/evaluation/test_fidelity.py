import numpy as np
import pytest
import torch
from cleanfid.fid import kernel_distance as cleanfid_kernel_distance
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors

from sfd_sweep.evaluation.fidelity import fidelity, inception_score, kernel_distance


def _features(count: int, size: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_kernel_distance_is_cleanfids_where_a_subset_is_all(shift: float) -> None:
    a, b = _features(200, 32, 0), _features(200, 32, 1, shift)
    expected = cleanfid_kernel_distance(a.double().numpy(), b.double().numpy(), num_subsets=1)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance_of_one_distribution_is_nothing_on_average() -> None:
    distances = [kernel_distance(_features(300, 16, 2 * seed), _features(300, 16, 2 * seed + 1)) for seed in range(30)]
    spread = np.std(distances)
    assert abs(np.mean(distances)) < 4 * spread / 30**0.5
    assert min(distances) < 0 < spread


def test_the_kernel_distance_draws_its_subsets_by_its_seed() -> None:
    a, b = _features(1500, 8, 0), _features(1200, 8, 1, 0.2)
    assert kernel_distance(a, b, seed=3) == kernel_distance(a, b, seed=3) != kernel_distance(a, b, seed=4)


def _share_among(points: np.ndarray, others: np.ndarray) -> float:
    """By brute force: is a point within any other's distance to its third neighbour?"""
    distances, _ = NearestNeighbors(n_neighbors=4).fit(others).kneighbors(others)
    radii = distances[:, 3]
    pairs = np.linalg.norm(points[:, None] - others[None], axis=2)
    return float((pairs <= radii).any(1).mean())


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_precision_and_recall_are_those_of_a_brute_force_search(shift: float) -> None:
    samples, real = _features(150, 5, 0, shift) * 0.7, _features(220, 5, 1)
    found = fidelity(samples, real)
    assert found.precision == pytest.approx(_share_among(samples.numpy(), real.numpy()))
    assert found.recall == pytest.approx(_share_among(real.numpy(), samples.numpy()))


def test_samples_of_one_mode_of_two_are_precise_and_do_not_cover() -> None:
    real = torch.cat([_features(200, 4, 0), _features(200, 4, 1, 50)])
    found = fidelity(_features(200, 4, 2), real)
    assert found.precision > 0.9
    assert 0.4 < found.recall < 0.5


def test_the_inception_score_is_one_for_images_that_all_look_alike() -> None:
    assert inception_score(torch.full((40, 1008), 1 / 1008)) == pytest.approx(1)


def test_the_inception_score_of_sure_and_even_classes_is_their_number() -> None:
    assert inception_score(torch.eye(50).repeat(4, 1)) == pytest.approx(50)


def test_the_inception_score_is_the_mean_over_splits_of_five_thousand() -> None:
    p = _features(12_000, 6, 0).softmax(1).double().numpy()
    splits = [p[:5000], p[5000:10_000], p[10_000:]]
    expected = np.mean([np.exp(np.mean([entropy(row, split.mean(0)) for row in split])) for split in splits])
    assert inception_score(torch.tensor(p)) == pytest.approx(expected, rel=1e-9)
