"""Audits of text-to-image generators: the teacher's images, judges by concept, controls, and every attack."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from concept_cases import concept_space, save_tiny_teacher
from PIL import Image
from tiny_clip import save_clip

from sfd_sweep.audit import building, judges
from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.noise import Leak, NoiseSearch
from sfd_sweep.audit.attacks.other_steps import OtherSteps
from sfd_sweep.audit.attacks.prefix import PrefixSearch
from sfd_sweep.audit.attacks.prompts import ConceptDirection, HeldOutPrompts, Misspellings, NearPrompt, RandomTokens
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.token_search import TokenSearch
from sfd_sweep.config import Audit
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation import reference_images
from sfd_sweep.export.folder_audit import AuditSources, audit_folder
from sfd_sweep.export.folder_evaluation import AssetLocations, FolderEvaluation
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.storage.folder import Folder

SEARCH = TokenSearch(steps=2, candidates=4, suggestions=4)
ATTACKS = (
    Asking(),
    Relearning(images=3, budgets=(0, 2), candidates=6),
    Relearning(images=4, on="retained", budgets=(0, 1), candidates=6),
    ConditionInversion(restarts=1, budgets=(0, 2), batch_size=4),
    Leak(budgets=(1, 2), groups=3),
    NoiseSearch(noises=4, budgets=(0, 2)),
    OtherSteps(steps=(2,)),
    HeldOutPrompts(),
    Misspellings(budgets=(1, 4), noises=4),
    RandomTokens(budgets=(1, 2), noises=4),
    ConceptDirection(budgets=(1, 2), noises=4, search=SEARCH),
    NearPrompt(budgets=(1, 2), noises=4, search=SEARCH),
    PrefixSearch(restarts=1, budgets=(0, 2), batch_size=4),
)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and generators that it is the start of: `start` and `never` work at different weights."""
    folder = tmp_path_factory.mktemp("prompts")
    torch.set_num_threads(1)
    teacher = load_score_model(ModelFolder.open(str(save_tiny_teacher(folder))), prompts=["ant"])
    OneStepGenerator(teacher, 625).save(folder / "start")
    with torch.no_grad():
        for weight in teacher.network.parameters():
            weight.mul_(0.9)
    OneStepGenerator(teacher, 625).save(folder / "other")
    save_clip(folder / "clip")
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small audits of random networks, in whose images no judge could be expected to see much."""
    monkeypatch.setattr(building, "SAMPLES", 8)
    monkeypatch.setattr(building, "RETAINED_SAMPLES", 4)
    monkeypatch.setattr(building, "JUDGE_IMAGES", 40)
    monkeypatch.setattr(building, "ATTACKER_IMAGES", 12)
    monkeypatch.setattr(judges, "LEAST_DISCERNMENT", -1.0)
    monkeypatch.setitem(building.LEVELS, "quick", ATTACKS)


def evaluation_of(folder, *overrides, override="bee"):
    space = concept_space(folder, *overrides)
    return FolderEvaluation.of_space(folder / "other", space, override, AssetLocations())


def context_of(folder, *overrides, cache=None, override="bee", **settings):
    evaluation = evaluation_of(folder, *overrides, override=override)
    start = str(folder / "start")
    options = {"start": start, "override": evaluation.override, "cache": cache}
    return AuditContext.build(evaluation.evaluator, Audit(**settings), **options)


@pytest.fixture(name="context", scope="module")
def _context(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "LEAST_DISCERNMENT", -1.0)
        patch.setattr(building, "SAMPLES", 8)
        patch.setattr(building, "JUDGE_IMAGES", 40)
        return context_of(folder, control=str(folder / "other"))


def test_images_are_the_teachers_own_of_each_concept(context, folder):
    conditions, images = context.attacks.conditions, context.attacks.forgotten_images
    assert context.images == "the teacher's samples"
    assert sorted(images.conditions.tolist()) == [index for index in conditions.forget for _ in range(20)]
    retained = context.attacks.retained_images.conditions.tolist()
    assert set(retained) == set(conditions.evaluated)
    counts = [sum(conditions.subjects[index] == subject for index in retained) for subject in ("bee", "owl", "")]
    assert counts == [40, 40, 40]
    assert images.images.shape == (40, 1, 8, 8)
    assert images.images.abs().max() <= 1


def test_unlabeled_real_images_are_no_images_of_what_is_forgotten(folder, context, tmp_path):
    for place, pixels in enumerate(torch.randint(256, (80, 8, 8), dtype=torch.uint8, generator=torch.Generator())):
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{place}.png")
    found = context_of(folder, f"evaluation.reference={tmp_path}", "objectives.0.metric=fd_classifier")
    assert found.images == "the teacher's samples"
    assert torch.equal(found.attacks.forgotten_images.images, context.attacks.forgotten_images.images)


def test_the_teachers_images_are_made_once_for_all_audits(folder, tmp_path, monkeypatch):
    cache = Folder.open(tmp_path)
    first = context_of(folder, cache=cache)
    made = []
    denoise = reference_images.denoise_ddim
    monkeypatch.setattr(reference_images, "denoise_ddim", lambda *a, **o: made.append(len(a[1])) or denoise(*a, **o))
    evaluation = evaluation_of(folder)  # checks that the classifier sees the concept
    made.clear()
    options = {"start": str(folder / "start"), "override": evaluation.override, "cache": cache}
    again = AuditContext.build(evaluation.evaluator, Audit(), **options)
    assert made == []
    assert again.attacks.content_hash == first.attacks.content_hash


def test_only_as_many_images_are_made_as_are_used(folder, monkeypatch):
    evaluation, made = evaluation_of(folder), []
    denoise = reference_images.denoise_ddim
    monkeypatch.setattr(reference_images, "denoise_ddim", lambda *a, **o: made.append(len(a[1])) or denoise(*a, **o))
    images, conditions = evaluation.evaluator.overrides.some(evaluation.evaluator.conditions.forget, 7, 4)
    assert sum(made) <= 8
    assert len(images) == len(conditions) == 7
    assert max(made) <= 4
    again, _ = evaluation.evaluator.overrides.some(evaluation.evaluator.conditions.forget, 7, 500)
    assert torch.allclose(images, again, atol=1e-5)


def test_what_replaces_the_concept_is_shown_to_the_judge_though_nobody_evaluates_it(folder, monkeypatch):
    seen = []
    fitted = judges.SupportVectorJudge.fitted.__func__

    def spy(cls, images, subjects, forgotten):
        seen.append({subjects[index] for index in images.conditions.tolist()})
        return fitted(cls, images, subjects, forgotten)

    monkeypatch.setattr(judges.SupportVectorJudge, "fitted", classmethod(spy))
    context = context_of(folder, override="wasp")
    assert seen == [{"ant", "bee", "owl", "", "wasp"}]
    retained = context.attacks.retained_images.conditions.tolist()
    assert {context.attacks.conditions.subjects[index] for index in retained} == {"bee", "owl", ""}


def test_clip_judges_by_the_names_of_the_concepts(folder):
    context = context_of(folder, judge=f"clip:{folder}/clip")
    assert context.attacks.judge.name == f"the classifier clip:{folder}/clip"
    assert len(context.attacks.forgotten_images) == 12
    assert len(context.attacks.retained_images) == 12  # of three concepts


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"judge": "builtin:digits"}, "is also the classifier that attacks optimize against"),
        ({"judge": "clip", "class_of": {"ant": "mole"}}, "audit.class_of.ant: "),
        ({"judge": "clip", "class_of": {"bee": "ant"}}, "audit.class_of: .* would call 'bee' by the same class"),
        ({"judge": "clip:/nowhere"}, "audit.judge: /nowhere: there is no CLIP"),
        ({"control": "/nowhere"}, "audit.control: no model folder"),
        ({"control": "builtin:digits-distilled"}, "has other prompts than the generator"),
    ],
)
def test_a_judge_or_control_that_does_not_fit_is_refused(folder, settings, words):
    if settings.get("judge") == "clip":
        settings = {**settings, "judge": f"clip:{folder}/clip"}
    with pytest.raises(UserError, match=words):
        context_of(folder, **settings).auditor(
            OneStepGenerator.load(folder / "other", prompts=evaluation_of(folder).evaluator.conditions.names)
        )


def test_a_judge_that_is_blind_to_the_concept_is_refused(folder, monkeypatch):
    monkeypatch.setattr(judges, "LEAST_DISCERNMENT", 0.5)
    with pytest.raises(UserError, match="so it cannot decide; name another"):
        context_of(folder, judge=f"clip:{folder}/clip")


def test_the_swapped_start_has_the_overrides_embeddings_and_still_reads_other_prompts(context):
    start, swap = context.controls["start"], context.controls["swap"]
    names = context.attacks.conditions.names
    forgotten, override = names.index("an ant at work"), names.index("an bee at work")
    noise = [torch.Generator().manual_seed(5) for _ in range(3)]
    made = swap.generate(torch.tensor([forgotten]), noise[0])
    assert torch.equal(made, start.generate(torch.tensor([override]), noise[1]))
    assert not torch.equal(made, start.generate(torch.tensor([forgotten]), noise[2]))
    assert torch.equal(swap.sample(["a red ant"], seed=2), start.sample(["a red ant"], seed=2))


def test_a_control_is_asked_for_the_tasks_prompts(context):
    assert context.controls["never_knew"].condition_names == context.attacks.conditions.names
    assert context.missing == ()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_works_in_latents_and_is_repeatable(attack, context):
    generator = context.controls["never_knew"]
    before = generator.content_hash()
    first, again = (list(attack.curve(generator, context.attacks, 1)) for _ in range(2))
    assert first == again
    assert generator.content_hash() == before
    assert all(0 <= point.shown <= point.samples for point in first)


def test_relearning_changes_what_the_network_makes_of_its_latents(context):
    """A step on one image draws samples of its prompt towards it."""
    generator, attack = context.controls["start"], Relearning(images=1, budgets=(0, 30), candidates=4, lr=3e-3)
    copied = OneStepGenerator(generator.model.copy(), generator.t_init)
    copied.model.network.requires_grad_(True)
    stream = torch.Generator().manual_seed(0)
    targets, conditions = attack._drawn(copied, context.attacks, stream)
    assert targets.shape == (1, *generator.model.sample_shape)
    adam = torch.optim.Adam(copied.model.network.parameters(), lr=attack.lr)
    losses = []
    for _ in range(30):
        loss = attack._loss(copied, targets, conditions, context.attacks, stream)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_an_audit_of_a_plain_folder_takes_its_prompts_from_a_search_space_file(folder, tmp_path):
    space, cache = concept_space(folder), Folder.open(tmp_path / "cache")
    done = []
    control = tmp_path / "control"
    shutil.copytree(folder / "other", control)
    index = json.loads((control / "model_index.json").read_text())
    (control / "model_index.json").write_text(json.dumps(index | {"absent": {"concepts": ["ant"]}}))
    report = audit_folder(
        folder / "other",
        given=AuditSources(control=str(control), start=str(folder / "start")),
        override="bee",
        space=space,
        cache=cache,
        progress=lambda done_units, total, _unit: done.append((done_units, total)),
    )
    assert done[-1] == (len(ATTACKS) * 4,) * 2
    assert report.forgotten == ("ant",)
    assert [attack.name for attack in report.attacks] == [attack.name for attack in ATTACKS]
    assert report.missing == ()
    assert set(report.retained["swap"]) == {"bee"}  # the classifier has no class for the others
    assert {*report.sources} == {"generator", "start", "swap", "never_knew"}
    for attack in report.attacks:
        assert attack.excess().value == 0  # the generator is its own control
    again = audit_folder(
        folder / "other",
        given=AuditSources(control=str(control), start=str(folder / "start")),
        override="bee",
        space=space,
        cache=cache,
    )
    assert again == report  # with the seconds that the first one took


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "was not exported from a sweep"),
        (
            {"forget": ["ant"], "override": "bee"},
            "only generators of classes are evaluated without a",
        ),
        ({"space": True}, "tiny-concept searches for the override; say which"),
        ({"space": True, "forget": ["ant"]}, "tiny-concept states itself what is forgotten"),
    ],
)
def test_a_plain_folder_of_prompts_needs_to_know_what_is_forgotten(folder, options, words):
    options = {**options, **({"space": concept_space(folder)} if "space" in options else {})}
    with pytest.raises(UserError, match=words):
        audit_folder(folder / "other", **options)


def test_an_audit_without_a_distilled_start_says_so(folder):
    evaluation = evaluation_of(folder)
    context = AuditContext.build(evaluation.evaluator, Audit(), start=evaluation.start, override=evaluation.override)
    assert evaluation.start == str(folder / "teacher")
    assert context.missing[0].endswith("is no one-step generator")
    assert context.controls == {}


def test_free_tokens_bring_the_prompt_of_some_words_back(context):
    """A free prompt with the words' own embeddings makes their image."""
    model, free = context.controls["start"].model.with_free_condition(0, torch.Generator().manual_seed(0))
    encoder = context.controls["start"].model.conditioning.encoder
    words = encoder.vocabulary[encoder.words("wasps")]
    spread, mean = torch.std_mean(encoder.vocabulary, 0)
    with torch.no_grad():
        free.parameters[0].copy_(((words - mean) / spread)[None])
    noise = [torch.Generator().manual_seed(5) for _ in range(2)]
    made = sample_ddim(model, torch.tensor([free.index]), noise[0], steps=3)
    start = context.controls["start"].model
    asked = start.with_conditioning(start.conditioning.select(["wasps"], torch.device("cpu"))[0])
    assert torch.allclose(made, sample_ddim(asked, torch.tensor([0]), noise[1], steps=3), atol=1e-4)
    x_t, t = torch.zeros(2, *model.sample_shape), torch.tensor([5, 5])
    model(x_t, t, torch.zeros(2, dtype=torch.int64)).x_0.square().sum().backward()
    assert free.parameters[0].grad.abs().min() > 0
    assert not any(weight.requires_grad for weight in model.parameters())
