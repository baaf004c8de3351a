"""Unified Concept Editing, against a least-squares solver."""

import pytest
import torch
from tiny_text_models import PROMPTS, save_stable_diffusion

from sfd_sweep.config import Resources, Settings
from sfd_sweep.method.batch import FixedOverride, ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.methods import unlearning
from sfd_sweep.method.rivals.concept_editing import edited_projection, projections
from sfd_sweep.method.rivals.replay import Models
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT, FORGOTTEN, REPLACING, RETAINED = (
    drawn(5, 8),
    drawn(6, 8, seed=1),
    drawn(6, 8, seed=2),
    drawn(10, 8, seed=3),
)


def test_the_closed_form_solves_the_least_squares_problem():
    settings = Settings(method="uce", edit_regularization=0.5, forget_weight=2.0, retain_weight=0.7)
    rows = [0.5**0.5 * torch.eye(8, dtype=torch.float64), 2**0.5 * FORGOTTEN, 0.7**0.5 * RETAINED]
    wanted = [0.5**0.5 * WEIGHT.T, 2**0.5 * REPLACING @ WEIGHT.T, 0.7**0.5 * RETAINED @ WEIGHT.T]
    expected = torch.linalg.lstsq(torch.cat(rows), torch.cat(wanted)).solution.T
    found = edited_projection(WEIGHT, FORGOTTEN, REPLACING, RETAINED.T @ RETAINED, settings)
    torch.testing.assert_close(found, expected)


def test_without_a_weight_on_forgetting_nothing_changes():
    settings = Settings(method="uce", forget_weight=0.0)
    torch.testing.assert_close(edited_projection(WEIGHT, FORGOTTEN, REPLACING, RETAINED.T @ RETAINED, settings), WEIGHT)


def test_a_large_weight_leads_the_forgotten_tokens_to_their_overrides():
    settings = Settings(method="uce", forget_weight=1e9, retain_weight=0)
    found = edited_projection(WEIGHT, FORGOTTEN, REPLACING, RETAINED.T @ RETAINED, settings)
    torch.testing.assert_close(found @ FORGOTTEN.T, WEIGHT @ REPLACING.T, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, WEIGHT)


def test_a_retained_token_keeps_its_projection_where_it_alone_counts():
    settings = Settings(method="uce", forget_weight=1e-3, retain_weight=1e9)
    found = edited_projection(WEIGHT, FORGOTTEN, REPLACING, RETAINED.T @ RETAINED, settings)
    assert float((found - WEIGHT).norm()) == pytest.approx(0, abs=1e-6)


@pytest.fixture(name="teacher", scope="module")
def _teacher(tmp_path_factory):
    folder = save_stable_diffusion(tmp_path_factory.mktemp("text") / "teacher")
    return load_score_model(ModelFolder.open(str(folder)), prompts=PROMPTS)


def edited(teacher, **changes):
    """The generator that has forgotten the first prompt for the second."""
    settings = Settings(method="uce", t_init=625, **changes)
    task = ForgettingTask((1, 2), (0,), FixedOverride({0: 1}))
    models = Models(teacher, teacher, lambda _what, compute: compute())
    return unlearning(models, task, settings, seed=0, resources=Resources())


def test_a_generator_of_prompts_is_edited_in_its_cross_attention_alone(teacher, tmp_path):
    one = edited(teacher, forget_weight=1.0)
    one.update()
    assert (one.step, one.update().by_name) == (1, {})
    before, after = teacher.state_dict(), one.ema_generator.model.state_dict()
    changed = {name for name, weight in before.items() if not torch.equal(after[name], weight)}
    assert changed
    assert all(name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight")) for name in changed)
    assert len(changed) == len(projections(teacher.network))
    one.ema_generator.save(tmp_path / "generator")
    loaded = OneStepGenerator.load(tmp_path / "generator", prompts=PROMPTS)
    assert torch.equal(loaded.sample([PROMPTS[0]]), one.ema_generator.sample([PROMPTS[0]]))


def test_without_a_weight_on_forgetting_prompts_give_the_same_images(teacher):
    start, one = OneStepGenerator(teacher, 625), edited(teacher, forget_weight=0.0).ema_generator
    torch.testing.assert_close(one.sample(PROMPTS), start.sample(PROMPTS), rtol=0, atol=1e-4)


def test_the_forgotten_prompt_moves_towards_its_override(teacher):
    z, c = torch.randn(4, *teacher.sample_shape, generator=torch.Generator().manual_seed(0)), torch.zeros(4).long()
    start = OneStepGenerator(teacher, 625)
    one = edited(teacher, forget_weight=100.0, retain_weight=1.0).ema_generator
    with torch.no_grad():
        wanted = start(z, c + 1)
        before, after = ((each(z, c) - wanted).norm() for each in (start, one))
    assert after < 0.7 * before
