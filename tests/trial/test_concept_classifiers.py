"""Classifiers of concepts, which know no classes of the teacher: CLIP, NudeNet, and real images without labels."""

import pytest
import torch
from concept_cases import concept_space
from photographs import photographs
from tiny_clip import EMBEDDING, save_clip
from tiny_text_models import save_stable_diffusion

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation import factory as building
from sfd_sweep.evaluation.classifiers.clip import ClipScore
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner

SUBJECTS = ("ant", "bee", "owl")


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifiers")
    save_stable_diffusion(folder / "teacher")
    save_clip(folder / "clip")
    return folder


@pytest.fixture(autouse=True)
def _any_share_will_do(monkeypatch):
    """Random networks see anything; whether a classifier is refused is tested elsewhere."""
    monkeypatch.setattr(building, "LEAST_RECOGNIZED", 0.0)


def workbench_of(folder, *overrides):
    space = concept_space(folder, "evaluation.class_of={}", *overrides, called=0)
    return TrialContext.build(resolve_sweep(space), None)


def report_of(context, tmp_path, **sampled):
    settings = context.plan.space.parameters.settings({"generator_lr": 2e-4, "override": "bee", **sampled})
    return TrialRunner(context, settings, Folder.open(tmp_path / "trial")).advance(2)


def test_clip_tells_the_concept_from_others_and_concepts(folder, tmp_path):
    clip = f"clip:{folder}/clip"
    judged = (f"evaluation.classifier={clip}", f"evaluation.clip={folder}/clip", "evaluation.concepts=[a stone, owl]")
    context = workbench_of(folder, *judged)
    classifier = context.evaluator.classifier
    assert sorted(classifier.class_names) == sorted([*SUBJECTS, "a stone"])
    report = report_of(context, tmp_path)
    assert report.metrics.keys() >= {"clip_score", "override_rate", "retain_accuracy", "fd_classifier_teacher"}
    alike = load_classifier(clip, concepts=classifier.class_names)
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(classifier(images), alike(images))
    assert classifier.features(images).shape == (4, EMBEDDING)


def test_clip_decides_alike_whatever_overrides_a_sweep_tries(folder):
    clip = f"evaluation.classifier=clip:{folder}/clip"
    judges = [
        workbench_of(folder, clip, f"parameters.override={override}").evaluator.classifier
        for override in (
            "{type: categorical, choices: [bee, wasp]}",
            "{type: categorical, choices: [bee, a stone, fly]}",
            "bee",
        )
    ]
    assert {frozenset(judge.class_names) for judge in judges} == {frozenset(SUBJECTS)}
    assert len({judge.content_hash() for judge in judges}) == 1


def test_clip_calls_an_override_if_it_is_one_of_the_concepts(folder, tmp_path):
    clip, asked = f"evaluation.classifier=clip:{folder}/clip", "evaluation.metrics=[override_rate]"
    with pytest.raises(UserError, match="override_rate: .* has no class of the name of every override"):
        workbench_of(folder, clip, asked)
    context = workbench_of(folder, clip, asked, "evaluation.concepts=[wasp]")
    assert 0 <= report_of(context, tmp_path, override="wasp").metrics["override_rate"] <= 1


def test_clip_with_one_class_is_told_to_have_others(folder):
    alone = ("task.prompts.others=[]", "task.prompts.retain=[cow]", f"evaluation.classifier=clip:{folder}/clip")
    with pytest.raises(UserError, match="'ant' as its only class; name in `concepts`"):
        workbench_of(folder, *alone)


def test_concepts_are_refused_without_clip(folder):
    with pytest.raises(UserError, match="evaluation.concepts: are classes of CLIP"):
        workbench_of(folder, "evaluation.concepts=[a stone]")


def test_the_clip_score_is_the_mean_over_retained_samples_of_their_own_prompts(folder):
    context = workbench_of(folder, f"evaluation.classifier=clip:{folder}/clip", f"evaluation.clip={folder}/clip")
    conditions, made = context.plan.conditions, []

    def generate(c, noise):
        images = sample_ddim(context.teacher, c, noise, steps=2)
        made.append((images, c))
        return images

    figures = context.evaluator.evaluate(generate, override=None, samples=60, forget_samples=20)
    retained = made[0]  # one batch
    names = [conditions.names[index] for index in retained[1]]
    score = ClipScore(str(folder / "clip"), names)
    levels = ((retained[0].clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    expected = float(score.scores(levels, torch.arange(len(names))).double().mean())
    assert figures.metrics["clip_score"] == pytest.approx(expected, abs=1e-6)


def test_nudenet_reports_parts_of_the_body_and_no_distances(folder, tmp_path):
    context = workbench_of(
        folder,
        *("evaluation.classifier=nudenet", "evaluation.class_of={ant: nudity}", f"evaluation.clip={folder}/clip"),
        *("objectives.0={metric: clip_score, goal: maximize, reference_point: 0}", "evaluation.forget_samples=4"),
        "evaluation.samples=4",
    )
    metrics = report_of(context, tmp_path).metrics
    assert metrics["nudenet_female_breast_exposed"] == 0  # of noise of 8×8 pixels
    assert metrics["unlearning_accuracy"] == 1
    assert not [name for name in metrics if "distance" in name or name.startswith("fd_")]


def test_quality_may_be_held_against_real_images_without_labels(folder, tmp_path):
    photographs(tmp_path / "photographs", count=80, size=16)
    context = workbench_of(
        folder,
        *(f"evaluation.classifier=clip:{folder}/clip", f"evaluation.reference={tmp_path}/photographs"),
        "objectives.0.metric=fd_classifier",
    )
    report = report_of(context, tmp_path)
    assert report.metrics["fd_classifier"] > 0
    assert "fd_classifier_teacher" not in report.metrics
    assert "override_distance" in report.metrics


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["evaluation.reference=/nowhere", "objectives.0.metric=fd_classifier"], "there are no images at /nowhere"),
        (["evaluation.classifier=clip:/nowhere"], "there is no CLIP"),
        (["evaluation.classifier=nudenet", "objectives.0.metric=fid_teacher"], "has no class 'ant'"),
        (["evaluation.metrics=[retain_accuracy]", "evaluation.class_of={ant: 3}"], "takes images of 1 channels"),
    ],
)
def test_a_classifier_or_reference_that_does_not_fit_is_refused(folder, overrides, words):
    with pytest.raises(UserError, match=words):
        workbench_of(folder, *overrides)
