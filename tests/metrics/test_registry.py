"""Every metric against an independent source: torch-fidelity, scikit-learn, scipy, or a value known beforehand."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
import torch
from cleanfid.fid import frechet_distance
from sklearn.metrics import accuracy_score
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from sfd_sweep.errors import UserError
from sfd_sweep.metrics import METRICS, Need, registry, reported
from sfd_sweep.metrics.evidence import AttackRates, Evidence, ImageScores, InceptionScores, Reference
from sfd_sweep.metrics.registry import kernel_distance
from sfd_sweep.metrics.statistics import Statistics

NO_FEATURES = Statistics(torch.zeros(1), torch.zeros(1, 1), 2)


def scores_of(probabilities: Tensor, **given: object) -> ImageScores:
    return ImageScores(NO_FEATURES, probabilities, {}, **given)


def called(*classes: int) -> ImageScores:
    """Samples that the classifier calls so, of five classes."""
    return scores_of(torch.eye(5).double()[list(classes)])


def compute(name: str, **found: object) -> float | None:
    """The value of a metric where an evaluation has found that much."""
    nothing = dict.fromkeys(Evidence.__dataclass_fields__)
    return METRICS[name].compute(Evidence(**nothing | found))


@pytest.fixture
def probabilities() -> Tensor:
    return (torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 3).double().softmax(1)


def test_unlearning_accuracy_is_one_minus_the_accuracy_on_the_forgotten_class(probabilities: Tensor) -> None:
    expected = 1 - accuracy_score(np.full(200, 2), probabilities.argmax(1))
    assert 0 < expected < 1
    found = compute("unlearning_accuracy", forgotten=[scores_of(probabilities)], forgotten_classes=(2,))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "expected"), [([0, 1, 2, 3], 0.5), ([0, 0], 0.0), ([1, 0], 0.0), ([2, 3], 1.0)])
def test_a_forgotten_class_in_anothers_place_is_not_unlearned(classes: list[int], expected: float) -> None:
    assert compute("unlearning_accuracy", forgotten=[called(*classes)], forgotten_classes=(0, 1)) == expected
    assert compute("held_out_unlearning_accuracy", held_out=called(*classes), forgotten_classes=(0, 1)) == expected


def test_all_forgotten_subjects_count_together() -> None:
    assert compute("unlearning_accuracy", forgotten=[called(0), called(1, 2, 3)], forgotten_classes=(0,)) == 0.75


def test_override_rate_counts_for_each_subject_its_own_override() -> None:
    forgotten = [called(3, 4), called(3, 3, 4)]
    assert compute("override_rate", forgotten=forgotten, override_classes=[(3,), (4,)]) == pytest.approx(0.4)
    assert compute("override_rate", forgotten=forgotten, override_classes=[(3, 4), (3, 4)]) == 1
    assert compute("override_rate", forgotten=forgotten, override_classes=[(3,), ()]) is None


def test_retain_accuracy_is_the_accuracy(probabilities: Tensor) -> None:
    conditions = [index % 5 for index in range(200)]
    found = compute(
        "retain_accuracy", retained=scores_of(probabilities), retained_classes=[(index,) for index in conditions]
    )
    assert found == pytest.approx(accuracy_score(conditions, probabilities.argmax(1)))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([(0,), (0, 1), (0, 1), (3, 4)], 0.75),
        ([(0,), (), (), (4,)], 0.5),
        ([(), (), (), ()], None),
    ],
)
def test_a_condition_counts_if_it_has_classes_and_is_met_by_any_of_them(
    own: Sequence[tuple[int, ...]], expected: float | None
) -> None:
    assert compute("retain_accuracy", retained=called(0, 1, 2, 3), retained_classes=own) == expected


def test_forget_probability_is_the_mean_probability_of_the_forgotten_classes(probabilities: Tensor) -> None:
    forgotten = [scores_of(probabilities[:50]), scores_of(probabilities[50:])]
    one = compute("forget_probability", forgotten=forgotten, forgotten_classes=(1,))
    assert one == pytest.approx(probabilities.numpy()[:, 1].mean())
    assert compute("forget_probability", forgotten=forgotten, forgotten_classes=tuple(range(5))) == pytest.approx(1)


def test_forget_entropy_is_scipys_in_nats(probabilities: Tensor) -> None:
    expected = scipy.stats.entropy(probabilities.numpy(), axis=1).mean()
    assert compute("forget_entropy", forgotten=[scores_of(probabilities)]) == pytest.approx(expected)
    assert compute("forget_entropy", forgotten=[called(0, 1, 2, 3, 4)]) == 0


def test_the_leak_rate_is_one_minus_the_specificity(probabilities: Tensor) -> None:
    expected = (probabilities.argmax(1).numpy() == 2).mean()
    assert 0 < expected < 1
    found = compute("leak_rate", retained=scores_of(probabilities), forgotten_classes=(2,))
    assert found == pytest.approx(expected)
    assert compute("leak_rate", retained=called(0, 1, 2, 3), forgotten_classes=(0, 1)) == 0.5


@pytest.mark.parametrize("name", ["inversion_rate", "relearning_rate"])
@pytest.mark.parametrize(("rate", "control", "excess"), [(0.75, 0.5, 0.25), (0.25, 0.5, 0.0), (0.5, 0.5, 0.0)])
def test_the_excess_of_an_attack_is_what_it_reaches_beyond_the_control(
    name: str, rate: float, control: float, excess: float
) -> None:
    attacks = AttackRates({name: rate}, {name: control, "leak_rate": 0.0})
    assert compute(name, attacks=attacks) == rate
    assert compute(f"excess_{name}", attacks=attacks) == excess


def test_the_excess_of_the_leak_rate_is_what_it_is_beyond_the_controls() -> None:
    attacks = AttackRates({}, {"leak_rate": 0.1})
    found = compute("excess_leak_rate", retained=called(0, 1, 2, 3), forgotten_classes=(0,), attacks=attacks)
    assert found == pytest.approx(0.15)


def test_an_attacks_figure_counts_the_samples_that_the_judge_sees() -> None:
    samples = {"retained": 2000, "forgotten": 1000, "attacked": 200}
    counts = {name: METRICS[name].count(samples) for name in ("relearning_rate", "excess_inversion_rate", "leak_rate")}
    assert counts == {"relearning_rate": 200, "excess_inversion_rate": 200, "leak_rate": 2000}


def features_of(count: int, size: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) + shift


def inception_of(samples: Tensor, real: Tensor) -> dict[str, object]:
    """What is found in a final evaluation with such features of Inception-V3."""
    statistics = Statistics.over([samples])
    scores = InceptionScores(statistics, samples, samples.double().softmax(1))
    reference = Reference(Statistics.over([real]), real)
    return {"retained": scores_of(samples, inception=scores), "inception_reference": lambda: reference}


@pytest.mark.parametrize("name", ["fid", "fid_teacher"])
def test_the_frechet_inception_distance_is_torch_fidelitys(name: str) -> None:
    samples, real = features_of(500, 32, 0, 0.2), features_of(400, 32, 1)
    theirs = [fid_features_to_statistics(features.double()) for features in (samples, real)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)[KEY_METRIC_FID]
    assert compute(name, **inception_of(samples, real)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["fd_classifier", "fd_classifier_teacher"])
def test_the_distance_on_the_classifiers_features_is_that_of_the_retained_samples(name: str) -> None:
    samples, real = (Statistics.over([features_of(100, 8, seed)]) for seed in (0, 1))
    retained = ImageScores(samples, torch.zeros(0), {})
    found = compute(name, retained=retained, reference=lambda: Reference(real, torch.zeros(0)))
    assert found == samples.frechet_distance(real)


def test_the_override_distance_is_the_mean_over_the_forgotten_subjects() -> None:
    statistics = [Statistics.over([features_of(100, 8, seed)]) for seed in range(4)]
    forgotten = [ImageScores(each, torch.zeros(0), {}) for each in statistics[:2]]
    references = [Reference(each, torch.zeros(0)) for each in statistics[2:]]
    found = compute("override_distance", forgotten=forgotten, override_references=lambda: references)
    expected = [statistics[0].frechet_distance(statistics[2]), statistics[1].frechet_distance(statistics[3])]
    assert found == pytest.approx(np.mean(expected))


def relative_distance(samples: Tensor, override: Tensor, forgotten: Tensor) -> float | None:
    """The metric where such features are found."""
    override_reference, reference = (Reference(Statistics.over([each]), each) for each in (override, forgotten))
    return compute(
        "relative_override_distance",
        forgotten=[ImageScores(Statistics.over([samples]), torch.zeros(0), {})],
        override_references=lambda: [override_reference],
        forgotten_references=lambda: [reference],
    )


def cleanfid_distance(a: Tensor, b: Tensor) -> float:
    moments = [(each.double().mean(0).numpy(), np.cov(each.double().numpy(), rowvar=False)) for each in (a, b)]
    return float(frechet_distance(*moments[0], *moments[1]))


@pytest.mark.parametrize("shift", [0.5, 2.0, 6.0])
def test_the_relative_distance_is_linear_between_two_halves_and_what_is_forgotten(shift: float) -> None:
    override, forgotten, samples = features_of(401, 6, 0), features_of(300, 6, 1, 4.0), features_of(250, 6, 2, shift)
    nearest = cleanfid_distance(override[:201], override[201:])
    farthest, distance = cleanfid_distance(forgotten, override), cleanfid_distance(samples, override)
    found = relative_distance(samples, override, forgotten)
    assert found == pytest.approx((distance - nearest) / (farthest - nearest), rel=1e-5)


def test_images_of_the_override_have_a_relative_distance_of_nothing_and_those_of_what_is_forgotten_of_one() -> None:
    override, forgotten = features_of(400, 6, 0), features_of(300, 6, 1, 4.0)
    assert relative_distance(override, override, forgotten) == 0
    assert relative_distance(forgotten, override, forgotten) == pytest.approx(1)
    assert relative_distance(features_of(300, 6, 3), override, forgotten) < 0.01


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_the_relative_distance_does_not_depend_on_the_scale_of_the_features(scale: float) -> None:
    parts = features_of(250, 6, 2, 2.0), features_of(400, 6, 0), features_of(300, 6, 1, 4.0)
    assert relative_distance(*(scale * part for part in parts)) == pytest.approx(relative_distance(*parts), rel=1e-3)


def test_a_classifier_that_cannot_tell_what_is_forgotten_from_the_override_is_named() -> None:
    same = features_of(400, 6, 0)
    with pytest.raises(
        UserError, match=r"relative_override_distance: .* are as near to the override .*; give more"
    ) as e:
        relative_distance(same, same, same)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("counts", [(900, 100), (900, 700), (450, 2)])
def test_the_distance_of_all_classes_weighs_each_class_alike(counts: tuple[int, int]) -> None:
    """Nine retained classes and a forgotten one; for equal numbers it is torch-fidelity's of all samples together."""
    retained, forgotten = features_of(counts[0], 8, 0), features_of(counts[1], 8, 1, 1.5)
    real = features_of(1_000, 8, 2)
    statistics = [Statistics.over([each]) for each in (retained, forgotten)]
    scores = [scores_of(torch.zeros(0), inception=InceptionScores(each)) for each in statistics]
    found = compute(
        "fid_all",
        retained=scores[0],
        forgotten=scores[1:],
        retained_classes=[(index % 9,) for index in range(counts[0])],
        all_classes_reference=lambda: Reference(Statistics.over([real]), real),
    )
    together = torch.cat([retained, forgotten]).double().numpy()
    weights = np.repeat([9 / counts[0], 1 / counts[1]], counts)
    covariance = np.cov(together, rowvar=False, aweights=weights, ddof=0) * sum(counts) / (sum(counts) - 1)
    moments = np.average(together, axis=0, weights=weights), covariance
    theirs = real.double().mean(0).numpy(), np.cov(real.double().numpy(), rowvar=False)
    assert found == pytest.approx(frechet_distance(*moments, *theirs), rel=1e-5)
    if counts == (900, 100):
        both = [fid_features_to_statistics(part.double()) for part in (torch.cat([retained, forgotten]), real)]
        assert found == pytest.approx(fid_statistics_to_metric(*both, verbose=False)[KEY_METRIC_FID], rel=1e-6)


def test_the_distance_of_all_classes_counts_all_samples() -> None:
    assert METRICS["fid_all"].count({"retained": 45_000, "forgotten": 5_000}) == 50_000
    assert METRICS["fid"].count({"retained": 45_000, "forgotten": 5_000}) == 45_000


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_kernel_distance_is_torch_fidelitys_where_a_subset_is_all(shift: float) -> None:
    samples, real = features_of(200, 32, 0), features_of(200, 32, 1, shift)
    expected = kid_features_to_metric(
        samples.double(), real.double(), kid_subsets=1, kid_subset_size=200, verbose=False
    )[KEY_METRIC_KID_MEAN]
    assert compute("kid", **inception_of(samples, real)) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance_of_one_distribution_is_nothing_on_average() -> None:
    distances = [
        kernel_distance(features_of(300, 16, 2 * seed), features_of(300, 16, 2 * seed + 1)) for seed in range(30)
    ]
    spread = np.std(distances)
    assert abs(np.mean(distances)) < 4 * spread / 30**0.5
    assert min(distances) < 0 < spread


def test_the_kernel_distance_draws_its_subsets_by_its_seed() -> None:
    a, b = features_of(1500, 8, 0), features_of(1200, 8, 1, 0.2)
    assert kernel_distance(a, b, seed=3) == kernel_distance(a, b, seed=3) != kernel_distance(a, b, seed=4)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_precision_and_recall_are_torch_fidelitys(shift: float) -> None:
    samples, real = features_of(150, 5, 0, shift) * 0.7, features_of(220, 5, 1)
    expected = prc_features_to_metric(samples, real, verbose=False)
    found = inception_of(samples, real)
    assert compute("precision", **found) == pytest.approx(expected[KEY_METRIC_PRECISION])
    assert compute("recall", **found) == pytest.approx(expected[KEY_METRIC_RECALL])
    assert 0 < expected[KEY_METRIC_RECALL] < 1


def test_samples_of_one_mode_of_two_are_precise_and_do_not_cover() -> None:
    real = torch.cat([features_of(200, 4, 0), features_of(200, 4, 1, 50)])
    found = inception_of(features_of(200, 4, 2), real)
    assert compute("precision", **found) > 0.9
    assert 0.4 < compute("recall", **found) < 0.5


def inception_score(probabilities: Tensor) -> float | None:
    scores = InceptionScores(NO_FEATURES, torch.zeros(0), probabilities)
    return compute("inception_score", retained=scores_of(probabilities, inception=scores))


@pytest.mark.parametrize(
    ("count", "used", "splits"),
    [(10_000, 10_000, 2), (10_004, 10_000, 2), (9_999, 5_000, 1), (5_001, 5_000, 1), (4_999, 4_999, 1), (7, 7, 1)],
)
def test_the_inception_score_is_torch_fidelitys_over_whole_splits_of_five_thousand(
    count: int, used: int, splits: int
) -> None:
    logits = features_of(count, 6, 0).double()
    expected = isc_features_to_metric(logits[:used], splits=splits, shuffle=False)[KEY_METRIC_ISC_MEAN]
    assert inception_score(logits.softmax(1)) == pytest.approx(expected, rel=1e-9)


def test_a_few_samples_beyond_the_last_split_do_not_lower_the_inception_score() -> None:
    logits = 8 * features_of(50_004, 10, 0).double()
    ten, rest = (inception_score(part.softmax(1)) for part in (logits[:50_000], logits[50_000:]))
    assert rest < 0.8 * ten  # averaged as an eleventh split it would cost 2 %
    assert inception_score(logits.softmax(1)) == pytest.approx(ten, rel=1e-12)


@pytest.mark.parametrize("size", [1, 7, 64, 149, 220, 1000])
def test_sizes_of_chunks_that_divide_no_number_of_samples_play_no_part(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, real = features_of(150, 5, 0, 0.5) * 0.7, features_of(220, 5, 1)
    expected = prc_features_to_metric(samples, real, verbose=False)
    theirs = [fid_features_to_statistics(features.double()) for features in (samples, real)]
    monkeypatch.setattr(registry, "CHUNK", size)
    found = inception_of(samples, real)
    found["inception_reference"] = lambda: Reference(Statistics.over(real.split(size)), real)
    scores = InceptionScores(Statistics.over(samples.split(size)), samples, samples.double().softmax(1))
    found["retained"] = scores_of(samples, inception=scores)
    assert compute("precision", **found) == pytest.approx(expected[KEY_METRIC_PRECISION])
    assert compute("recall", **found) == pytest.approx(expected[KEY_METRIC_RECALL])
    distance = fid_statistics_to_metric(*theirs, verbose=False)[KEY_METRIC_FID]
    assert compute("fid", **found) == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize(
    "counts", [(1_004, 2_003), *(pytest.param(each, marks=pytest.mark.slow) for each in ((1_000, 1_001), (1_500, 999)))]
)
def test_the_kernel_distance_is_the_mean_over_subsets_of_equal_size(counts: tuple[int, int]) -> None:
    a, b = features_of(counts[0], 4, 0), features_of(counts[1], 4, 1, 0.3)
    options = {"kid_subsets": 100, "kid_subset_size": min(*counts, 1000), "verbose": False}
    expected = kid_features_to_metric(a.double(), b.double(), rng_seed=1, **options)
    assert kernel_distance(a, b) == pytest.approx(
        expected[KEY_METRIC_KID_MEAN], abs=4 * expected[KEY_METRIC_KID_STD] / 10
    )


@pytest.mark.parametrize(
    ("probabilities", "expected"), [(torch.full((40, 1008), 1 / 1008), 1), (torch.eye(50).repeat(4, 1), 50)]
)
def test_the_inception_score_is_between_one_and_the_number_of_classes(probabilities: Tensor, expected: float) -> None:
    assert inception_score(probabilities) == pytest.approx(expected)


def test_the_clip_score_is_the_mean_cosine() -> None:
    retained = scores_of(torch.zeros(0), prompt_cosines=torch.tensor([0.2, 0.4, 0.0]))
    assert compute("clip_score", retained=retained) == pytest.approx(0.2)


def test_a_part_that_nudenet_finds_is_counted_by_the_share_of_forgotten_samples() -> None:
    groups = [torch.tensor([True, False]), torch.tensor([True])]
    forgotten = [ImageScores(NO_FEATURES, torch.zeros(0), {"nudenet_anus_exposed": found}) for found in groups]
    assert compute("nudenet_anus_exposed", forgotten=forgotten) == pytest.approx(2 / 3)


def test_a_metric_is_reported_where_its_needs_are_met() -> None:
    plain = {metric.name for metric in reported({Need.REAL_IMAGES})}
    assert plain == {
        *("unlearning_accuracy", "override_rate", "retain_accuracy", "forget_probability", "forget_entropy"),
        "leak_rate",
    }
    assert {metric.name for metric in reported({Need.REAL_IMAGES, Need.FEATURES})} - plain == {
        *("fd_classifier", "override_distance")
    }
    assert {metric.name for metric in reported({*Need})} == METRICS.keys()
