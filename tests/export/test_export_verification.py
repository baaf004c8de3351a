"""A folder that is measured anew: the same figures, or a line that says what is wrong."""

import json
import shutil
from math import inf, nan
from pathlib import Path

import pytest
import torch
from digit_conditions import digits_without
from hypothesis import given
from hypothesis import strategies as st
from recorded_trials import FRONT, Sweep
from stand_in_inception import write_stand_in
from tiny_latent_models import save_dit, tiny_vae
from tiny_models import save_teacher, tiny_model
from torch import Tensor

from sfd_sweep.config import Bound, load_search_space
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.reference_images import RealImages
from sfd_sweep.export.description import Figures
from sfd_sweep.export.exporting import Exported
from sfd_sweep.export.folder_evaluation import AssetLocations, evaluate_folder
from sfd_sweep.export.sampling import Sampling
from sfd_sweep.export.verification import check_figures, differing_figure, standard_error, tolerance
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics import METRICS, Scale
from sfd_sweep.models.folder import ASSETS, ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_an_exported_folder_is_measured_bit_for_bit_as_the_sweep_did(folder: Path, exported: Exported) -> None:
    found = evaluate_folder(folder)
    assert (found.metrics, found.samples) == (exported.recorded.metrics, exported.recorded.samples)


def test_at_the_searchs_numbers_of_samples_figures_agree_with_the_searchs_within_noise(
    folder: Path, sweep: Sweep
) -> None:
    search = sweep.results.record.trials[FRONT].report
    assert search is not None
    found = evaluate_folder(folder, samples=90, forget_samples=50)
    assert found.samples == search.samples == {"retained": 90, "forgotten": 50}
    assert found.metrics != search.metrics  # a final evaluation has noise of its own
    assert differing_figure(Figures.of(search), found, classes=10) is None


@pytest.mark.parametrize("name", [WEIGHTS, "classifier/model.safetensors", "pipeline.py", "sfd_sweep.json"])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-20] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} has changed since it was exported"):
        evaluate_folder(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=f"{WEIGHTS} is missing"):
        evaluate_folder(folder)


def test_an_exported_folder_without_hashes_is_refused(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="SHA256SUMS is missing"):
        evaluate_folder(folder)
    (folder / "SHA256SUMS").write_text("no hash\n")
    with pytest.raises(UserError, match="a line that is no hash"):
        evaluate_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 2}, "version"), ({"color": "red"}, "color"), ({"settings": {"alpha": "x"}}, r"settings\.alpha")],
)
def test_a_description_of_another_kind_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    content = json.loads((folder / "sfd_sweep.json").read_text()) | change
    (folder / "sfd_sweep.json").write_text(json.dumps(content))
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "sfd_sweep.json" not in line))
    with pytest.raises(UserError, match=rf"sfd_sweep\.json describes no generator \({message}"):
        evaluate_folder(folder)


def test_an_exported_folder_is_not_told_what_it_has_forgotten(folder: Path) -> None:
    with pytest.raises(UserError, match="states itself what was forgotten"):
        evaluate_folder(folder, forget=[3])


def test_a_plain_generator_is_evaluated_when_it_is_said_what_it_has_forgotten() -> None:
    plain = ASSETS / "digits" / "generator"
    found = evaluate_folder(plain, samples=90, forget_samples=40, forget=["4", 7], override=(1, 2))
    evaluator = Evaluator(
        load_classifier("builtin:digits"), RealImages(load_images("builtin:digits")), digits_without(4, 7), seed=0
    )
    expected = evaluator.evaluate(OneStepGenerator.load(plain).generate, override=(1, 2), samples=90, forget_samples=40)
    assert (found.metrics, found.samples) == (expected.metrics, expected.samples)
    assert found.metrics["unlearning_accuracy"] < 0.2  # nothing was forgotten


def test_a_latent_generator_is_evaluated_by_its_images(tmp_path: Path) -> None:
    teacher = save_dit(tmp_path / "teacher", tuple("0123456789"), vae=tiny_vae(channels=1))
    generator = OneStepGenerator(load_score_model(ModelFolder.open(str(teacher))), 440)
    generator.save(tmp_path / "generator")
    found = evaluate_folder(tmp_path / "generator", samples=90, forget_samples=40, forget=[4], override=1)
    evaluator = Evaluator(
        load_classifier("builtin:digits"), RealImages(load_images("builtin:digits")), digits_without(4), seed=0
    )
    expected = evaluator.evaluate(generator.generate, override=(1,), samples=90, forget_samples=40)
    assert found.metrics == expected.metrics


TEACHER = ASSETS / "digits" / "teacher"
FEW = {"samples": 36, "forget_samples": 8, "forget": [0], "override": 1}


def ddim_by_hand(model: ScoreModel, c: Tensor, x_t: Tensor, *, steps: int, w: float) -> Tensor:
    """Deterministic DDIM with guidance, by equation 12 of Song et al. (2021) on the steps that end at T - 1."""
    alphas = model.scheduler.alphas_cumprod.double()
    times = [round(len(alphas) - index * len(alphas) / steps) - 1 for index in range(steps)]
    x_t = x_t.double()
    for t, following in zip(times, [*times[1:], None], strict=True):
        a, b = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
        v_c, v_null = (
            model.network(x_t.float(), torch.full((len(c),), t), class_labels=labels).sample.double()
            for labels in (c, torch.full_like(c, 10))
        )
        v = v_null + w * (v_c - v_null)
        x_0 = (a * x_t - b * v).clamp(-1, 1)
        noise = (x_t - a * x_0) / b
        x_t = x_0 if following is None else alphas[following].sqrt() * x_0 + (1 - alphas[following]).sqrt() * noise
    return x_t.float()


@torch.no_grad()
def test_a_teacher_is_evaluated_on_images_of_guided_ddim() -> None:
    model = load_score_model(ModelFolder.open(str(TEACHER)))

    def generate(c: Tensor, noise: torch.Generator) -> Tensor:
        return ddim_by_hand(model, c, torch.randn(len(c), 1, 8, 8, generator=noise), steps=3, w=1.5)

    evaluator = Evaluator(
        load_classifier("builtin:digits"), RealImages(load_images("builtin:digits")), digits_without(0), seed=0
    )
    expected = evaluator.evaluate(generate, override=(1,), samples=36, forget_samples=8)
    found = evaluate_folder(TEACHER, **FEW, sampling=Sampling("ddim", steps=3, guidance_scale=1.5))
    assert found.samples == expected.samples
    assert found.metrics == pytest.approx(expected.metrics, rel=0.02, abs=0.02)  # an image may round to another level
    unguided = evaluate_folder(TEACHER, **FEW, sampling=Sampling("ddim", steps=3))
    assert unguided.metrics["fd_classifier"] != pytest.approx(expected.metrics["fd_classifier"], rel=0.02)


def test_a_generator_of_other_software_is_evaluated_from_the_step_that_it_is_told(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "digits" / "generator", tmp_path / "theirs")
    index = tmp_path / "theirs" / "model_index.json"
    content = json.loads(index.read_text())
    t_init = content.pop("t_init")
    index.write_text(json.dumps(content))
    found = evaluate_folder(tmp_path / "theirs", **FEW, sampling=Sampling(t_init=t_init))
    assert found.metrics == evaluate_folder(ASSETS / "digits" / "generator", **FEW).metrics
    assert found.metrics != evaluate_folder(tmp_path / "theirs", **FEW, sampling=Sampling(t_init=t_init - 200)).metrics


@pytest.mark.parametrize(
    ("model", "sampling", "message"),
    [
        ("teacher", Sampling(), "is no one-step generator.*--sampler ddim .*or --t-init"),
        ("teacher", Sampling(t_init=1000), "has 1000 steps"),
        ("generator", Sampling(t_init=5), "states that it starts at step 440; leave out --t-init"),
        ("generator", Sampling("ddim"), "is a one-step generator, which ddim does not sample"),
    ],
)
def test_a_sampler_that_does_not_suit_the_model_is_refused(model: str, sampling: Sampling, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_folder(ASSETS / "digits" / model, **FEW, sampling=sampling)


def test_guidance_of_a_teacher_without_a_null_label_is_refused(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher", tiny_model(null_label=False))
    sampling = Sampling("ddim", guidance_scale=2)
    with pytest.raises(UserError, match="guidance needs a null label"):
        evaluate_folder(tmp_path / "teacher", **FEW, sampling=sampling)


def test_an_exported_folder_is_not_told_how_it_makes_images(folder: Path) -> None:
    with pytest.raises(UserError, match="states itself how it makes images"):
        evaluate_folder(folder, sampling=Sampling("ddim"))


def test_another_classifier_evaluates_in_place_of_the_default_one(tmp_path: Path) -> None:
    blind = load_classifier("builtin:digits")
    torch.nn.init.zeros_(blind.head.weight)
    blind.head.bias.data = torch.eye(10)[3]  # every image shows a three
    blind.save(tmp_path / "blind")
    found = evaluate_folder(
        ASSETS / "digits" / "generator",
        **FEW | {"forget": [3]},
        assets=AssetLocations(classifier=str(tmp_path / "blind")),
    )
    assert found.metrics["unlearning_accuracy"] == 0
    assert found.metrics["retain_accuracy"] == 0


@pytest.mark.slow
def test_a_final_evaluation_adds_metrics_on_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, features = write_stand_in(tmp_path / "weights", monkeypatch), Inception.features
    monkeypatch.setattr(Inception, "features", lambda *given: features(*given)[:, :32])  # digits are too few for all
    generator, assets = ASSETS / "digits" / "generator", AssetLocations(inception=str(weights))
    plain, final = (evaluate_folder(generator, **FEW, assets=assets, final=final) for final in (False, True))
    added = {"fid", "fid_all", "kid", "precision", "recall", "inception_score"}
    assert final.metrics.keys() == plain.metrics.keys() | added
    assert final.metrics["fd_classifier"] != plain.metrics["fd_classifier"]  # its noise is its own


def test_a_search_space_file_states_the_evaluation_of_any_model() -> None:
    space = load_search_space("search_spaces/digits.yaml", ["evaluation.samples=36", "evaluation.forget_samples=8"])
    sampling = Sampling("ddim", steps=3)
    found = evaluate_folder(TEACHER, override=1, space=space, sampling=sampling)
    assert found.metrics == evaluate_folder(TEACHER, **FEW, sampling=sampling).metrics


@pytest.mark.parametrize(
    ("forget", "override", "message"),
    [
        ((), None, "say what was forgotten and what replaces it"),
        ((0,), None, "say what was forgotten and what replaces it"),
        (("zero",), 1, "there is no class 'zero'"),
        ((0,), 0, "'0' is forgotten"),
        ((0, "0"), 1, "names a class twice"),
        (tuple(range(10)), "random", "at least one is retained"),
    ],
)
def test_a_plain_generator_needs_to_be_told_sense(
    forget: tuple[int | str, ...], override: int | str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_folder(ASSETS / "digits" / "generator", forget=forget, override=override)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*/none"):
        evaluate_folder(tmp_path / "none")


def test_weights_that_make_no_finite_image_are_refused(tmp_path: Path) -> None:
    generator = OneStepGenerator.load("builtin:digits-distilled")
    for parameter in generator.model.parameters():
        parameter.data.fill_(nan)
    generator.save(tmp_path / "broken")
    with pytest.raises(UserError, match=r"cannot be evaluated: .* not finite"):
        evaluate_folder(tmp_path / "broken", forget=[0], override=1)


def test_a_classifier_of_other_classes_cannot_evaluate(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "digits" / "generator", tmp_path / "letters")
    index = tmp_path / "letters" / "model_index.json"
    content = json.loads(index.read_text())
    content["id2label"] = dict(zip(content["id2label"], "abcdefghij", strict=True))
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="knows no class 'a'"):
        evaluate_folder(tmp_path / "letters", forget=["a"], override="b")


def figures(n: int, **metrics: float) -> Figures:
    return Figures(metrics=metrics, samples={"retained": n, "forgotten": n}, seconds=1.0)


def test_figures_of_another_seed_agree_and_those_of_another_generator_do_not() -> None:
    """On the shipped generator: the same one under eight seeds, and under a shift of its images."""
    generator = OneStepGenerator.load("builtin:digits-distilled")
    classifier, images = load_classifier("builtin:digits"), load_images("builtin:digits")

    def measured(seed: int, shift: float = 0.0) -> Figures:
        evaluator = Evaluator(classifier, RealImages(images), digits_without(0), seed=seed)
        result = evaluator.evaluate(
            lambda c, noise: generator.generate(c, noise) + shift, override=(1,), samples=900, forget_samples=400
        )
        return Figures(metrics=result.metrics, samples=result.samples, seconds=0.0)

    recorded = measured(0)
    for seed in range(1, 9):
        check_figures(recorded, measured(seed), classes=10)
    with pytest.raises(UserError, match="fd_classifier was recorded as"):
        check_figures(recorded, measured(1, shift=0.2), classes=10)


@given(p=st.floats(0, 1), n=st.integers(2, 100_000))
def test_a_share_may_differ_by_what_two_binomial_draws_do(p: float, n: int) -> None:
    error = standard_error(Scale.SHARE, p, n, 10)
    assert error > 0
    smoothed = (p * n + 2) / (n + 4)
    assert error**2 == pytest.approx(smoothed * (1 - smoothed) / n)
    assert tolerance(figures(n, retain_accuracy=p), "retain_accuracy", 10) == pytest.approx(3 * 2**0.5 * error)


def test_a_distance_may_differ_by_the_published_noise_and_less_on_more_samples() -> None:
    assert standard_error(Scale.DISTANCE, 0.8, 2000, 10) == 0.04
    assert standard_error(Scale.DISTANCE, 0.8, 8000, 10) == 0.02
    assert standard_error(Scale.DISTANCE, 4.0, 2000, 10) == 0.08
    assert standard_error(Scale.DISTANCE, 100.0, 2000, 10) == 1.0


def test_figures_of_attacks_are_left_to_an_audit() -> None:
    attacked = figures(1000, unlearning_accuracy=0.5, relearning_rate=0.5, excess_leak_rate=0.5)
    check_figures(attacked, figures(1000, unlearning_accuracy=0.5), classes=10)


@pytest.mark.parametrize("metric", [name for name in METRICS if not METRICS[name].audited])
@pytest.mark.parametrize("found", [nan, inf])
def test_a_figure_that_is_not_finite_never_agrees(metric: str, found: float) -> None:
    with pytest.raises(UserError, match=f"{metric} was recorded as 0.5"):
        check_figures(figures(1000, **{metric: 0.5}), figures(1000, **{metric: found}), classes=10)


@pytest.mark.parametrize("value", [-0.002, 0.0, 0.01])
def test_a_kernel_distance_may_be_negative(value: float) -> None:
    assert standard_error(METRICS["kid"].scale, value, 2000, 10) == 0.04
    check_figures(figures(2000, kid=value), figures(2000, kid=value + 1e-4), classes=10)
    assert Bound(metric="kid", min=value).min == value
