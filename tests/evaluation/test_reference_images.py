import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from digit_conditions import DIGITS, digits_without
from stand_in_inception import write_stand_in
from tiny_latent_models import tiny_latent_model, tiny_vae
from tiny_models import NAMES
from torch import Tensor

from sfd_sweep.config import TeacherSamples
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.evaluator import Evaluator, Generate
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.reference_images import RealImages, TeacherImages
from sfd_sweep.metrics import Need, reported
from sfd_sweep.metrics.statistics import Statistics
from sfd_sweep.models.families.base import LatentDecoder
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder

RECIPE = TeacherSamples(samples=1000, steps=8)
REAL = (Need.FEATURES, Need.INCEPTION, Need.REAL_IMAGES)


def names(*met: Need) -> set[str]:
    return {metric.name for metric in reported({*met})}


@pytest.fixture(scope="session")
def teacher() -> ScoreModel:
    return load_score_model(ModelFolder.open("builtin:digits"))


def of_teacher(teacher: ScoreModel, *, recipe: TeacherSamples = RECIPE, seed: int = 0) -> TeacherImages:
    return TeacherImages(teacher, DIGITS, recipe, samples=recipe.samples, of=10, seed=seed)


@pytest.fixture
def samples(teacher: ScoreModel) -> TeacherImages:
    return of_teacher(teacher)


def test_a_teachers_samples_are_the_same_whenever_they_are_asked_for(samples: TeacherImages) -> None:
    first, again = (torch.cat(list(samples.batches([3, 1], 64))) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first) == samples.count([3, 1]) == 200


def test_the_hash_of_a_teachers_samples_is_of_everything_that_they_depend_on(teacher: ScoreModel) -> None:
    other = teacher.copy()
    next(other.parameters()).data += 1e-3
    kinds = [
        of_teacher(teacher).content_hash([1, 2]),
        of_teacher(teacher).content_hash([1]),
        of_teacher(teacher, seed=1).content_hash([1, 2]),
        of_teacher(teacher, recipe=TeacherSamples(samples=1000, steps=9)).content_hash([1, 2]),
        of_teacher(other).content_hash([1, 2]),
    ]
    assert len(set(kinds)) == len(kinds)
    assert of_teacher(teacher.copy()).content_hash([2, 1]) == kinds[0]


@pytest.mark.parametrize(("asked", "drawn"), [(range(10), 1000), ([3], 100), ([1, 2, 3], 300)])
def test_a_group_of_conditions_has_its_share_of_the_samples(
    samples: TeacherImages, asked: list[int], drawn: int
) -> None:
    assert samples.count(asked) == drawn == sum(len(batch) for batch in samples.batches(asked, 500))


def test_samples_are_the_same_however_few_are_made_at_a_time(samples: TeacherImages) -> None:
    whole, parts = list(samples.batches([1, 2], 500)), list(samples.batches([1, 2], 7))
    assert [len(part) for part in parts] == [7] * 28 + [4]
    torch.testing.assert_close(torch.cat(parts), torch.cat(whole), rtol=0, atol=1e-4)


def test_no_more_reference_images_are_made_at_a_time_than_an_evaluation_bears(
    samples: TeacherImages, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def batches(conditions: Sequence[int], size: int) -> Iterator[Tensor]:
        asked.append(size)
        yield torch.rand(samples.count(conditions), 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    monkeypatch.setattr(samples, "batches", batches)
    evaluator = Evaluator(classifier, samples, digits_without(0), seed=5, batch_size=32)
    generate = lambda c, noise: torch.randn(len(c), 1, 8, 8, generator=noise)  # noqa: E731
    evaluator.evaluate(generate, override=(1,), samples=90, forget_samples=20)
    evaluator.forgotten_share(samples)
    assert set(asked) == {32}


def test_against_its_own_samples_a_teacher_is_near_and_noise_is_far(
    teacher: ScoreModel, samples: TeacherImages, classifier: Classifier
) -> None:
    def generate(c: Tensor, noise: torch.Generator) -> Tensor:
        return sample_ddim(teacher, c, noise, steps=8)

    def random(c: Tensor, noise: torch.Generator) -> Tensor:
        return torch.randn(len(c), 1, 8, 8, generator=noise)

    evaluator = Evaluator(classifier, samples, digits_without(0), seed=5)
    near = evaluator.evaluate(generate, override=(1,), samples=900, forget_samples=100).metrics
    assert near.keys() == names(Need.FEATURES, Need.TEACHER_SAMPLES)
    assert near["fd_classifier_teacher"] < 0.5
    far = evaluator.evaluate(random, override=(1,), samples=900, forget_samples=100).metrics
    assert far["fd_classifier_teacher"] > 50


def _digits(pool: LabeledImages) -> Generate:
    def generate(c: Tensor, noise: torch.Generator) -> Tensor:
        drawn = torch.rand(len(c), generator=noise)
        of_class = {label: pool.of_classes([label]).images for label in c.unique().tolist()}
        return torch.stack(
            [of_class[k][int(u * len(of_class[k]))] for k, u in zip(c.tolist(), drawn.tolist(), strict=True)]
        )

    return generate


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inception:
    return Inception(write_stand_in(tmp_path / "weights", monkeypatch), "clean")


class Narrow:
    """The stand-in, with the first 40 features alone: small data sets have a covariance of those."""

    def __init__(self, inception: Inception) -> None:
        self._inception = inception
        self.content_hash = inception.content_hash
        self.probabilities = inception.probabilities

    def features(self, images: Tensor) -> Tensor:
        return self._inception.features(images)[:, :40]


def test_inception_adds_its_metrics_and_a_final_evaluation_all_of_them(
    classifier: Classifier, digits: LabeledImages, stand_in: Inception
) -> None:
    evaluator = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, inception=Narrow(stand_in))
    figures = evaluator.evaluate(_digits(digits), override=(1,), samples=900, forget_samples=20, final=True).metrics
    assert figures.keys() == names(*REAL, Need.FINAL, Need.ALL_CLASSES)
    early = evaluator.evaluate(_digits(digits), override=(1,), samples=900, forget_samples=20)
    assert early.metrics.keys() == names(*REAL)
    assert figures["precision"] == figures["recall"] > 0.3 or figures["precision"] > 0.95
    assert abs(figures["kid"]) < 1e-2


@pytest.mark.slow
def test_fid_of_all_classes_is_the_distance_of_all_samples_to_images_of_all_in_batches_of_any_size(
    classifier: Classifier, digits: LabeledImages, stand_in: Inception
) -> None:
    made: list[Tensor] = []
    draw = _digits(digits)

    def generate(c: Tensor, noise: torch.Generator) -> Tensor:
        images = draw(c, noise)
        made.append(images)
        return images

    narrow = Narrow(stand_in)
    options = {"seed": 0, "inception": narrow, "batch_size": 77}
    evaluator = Evaluator(classifier, RealImages(digits), digits_without(0), **options)
    found = evaluator.evaluate(generate, override=(1,), samples=450, forget_samples=50, final=True)
    assert found.samples == {"retained": 450, "forgotten": 50}
    features = [narrow.features(torch.cat(part)) for part in (made, made[:6], [digits.images])]
    everything, retained, real = (Statistics.over([part]) for part in features)
    assert found.metrics["fid_all"] == pytest.approx(everything.frechet_distance(real), rel=1e-4)
    of_retained = Statistics.over([narrow.features(digits.of_classes(range(1, 10)).images)])
    assert found.metrics["fid"] == pytest.approx(retained.frechet_distance(of_retained), rel=1e-4)


def test_classes_without_images_of_the_forgotten_one_have_no_distance_of_all_classes(
    classifier: Classifier, digits: LabeledImages, stand_in: Inception
) -> None:
    real = RealImages(digits.without([0]))
    evaluator = Evaluator(classifier, real, digits_without(0), seed=0, inception=Narrow(stand_in))
    figures = evaluator.evaluate(_digits(digits), override=(1,), samples=90, forget_samples=20, final=True).metrics
    assert "fid" in figures
    assert "fid_all" not in figures


def test_fid_is_the_distance_of_inceptions_features_of_retained_samples(
    classifier: Classifier, digits: LabeledImages, stand_in: Inception
) -> None:
    made: list[Tensor] = []
    draw = _digits(digits)

    def generate(c: Tensor, noise: torch.Generator) -> Tensor:
        images = draw(c, noise)
        if 0 not in c:
            made.append(images)
        return images

    narrow = Narrow(stand_in)
    evaluator = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, inception=narrow)
    figures = evaluator.evaluate(generate, override=(1,), samples=900, forget_samples=20).metrics
    retained = digits.of_classes(range(1, 10)).images
    samples, real = (Statistics.over([narrow.features(images)]) for images in (torch.cat(made), retained))
    expected = samples.frechet_distance(real)
    assert figures["fid"] == pytest.approx(expected, rel=1e-3)


def test_fewer_reference_images_than_features_are_refused_with_what_is_defined_instead(
    classifier: Classifier, digits: LabeledImages, stand_in: Inception
) -> None:
    evaluator = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, inception=stand_in)
    with pytest.raises(UserError, match="1619 reference images .* on 2048 features is undefined .* fd_classifier on"):
        evaluator.evaluate(_digits(digits), override=(1,), samples=900, forget_samples=20)


def test_slots_that_start_together_compute_a_reference_once(
    classifier: Classifier, digits: LabeledImages, tmp_path: Path
) -> None:
    cache = Folder.open(tmp_path)
    first = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, cache=cache)
    figures = first.evaluate(_digits(digits), override=(1,), samples=900, forget_samples=20)

    def must_not(*_: object) -> Callable[..., Tensor]:
        raise AssertionError("computed again")

    real = RealImages(digits)
    real.batches = must_not  # type: ignore[method-assign, assignment]
    again = Evaluator(classifier, real, digits_without(0), seed=0, cache=cache)
    assert again.evaluate(_digits(digits), override=(1,), samples=900, forget_samples=20) == figures


def test_the_hash_of_a_latent_teachers_samples_is_of_its_decoder_too() -> None:
    latent = tiny_latent_model()

    def hash_with(decoder: LatentDecoder | None) -> str:
        teacher = ScoreModel(latent.network, latent.scheduler, latent.conditioning, decoder)
        return TeacherImages(teacher, NAMES, RECIPE, samples=30, of=3, seed=0).content_hash([0])

    vaes = [tiny_vae(), tiny_vae(seed=1), tiny_vae(scaling_factor=0.5), tiny_vae(shift_factor=0.1)]
    kinds = [hash_with(None), *(hash_with(LatentDecoder(vae)) for vae in vaes)]
    assert len(set(kinds)) == len(kinds)
    assert hash_with(LatentDecoder(tiny_vae())) == kinds[1]


def test_cached_statistics_of_pixel_teachers_remain_valid(teacher: ScoreModel) -> None:
    content = hashlib.sha256()
    for tensor in (*teacher.state_dict().values(), teacher.schedule.alphas):
        content.update(tensor.numpy().tobytes())
    assert of_teacher(teacher)._weights_hash == content.hexdigest()
