"""Which conditions an update sees, and what replaces the forgotten ones."""

import pytest
import torch

from sfd_sweep.method.batch import (
    ClassifierOverride,
    FixedOverride,
    ForgettingTask,
    RandomOverride,
    draw_update_batch,
)

TASK = ForgettingTask(retained=(1, 2, 5), forgotten=(0, 4), override=RandomOverride())


def draw(task=TASK, *, seed=0, batch_size=300, forget_batch_size=200, **options):
    return draw_update_batch(
        task,
        batch_size=batch_size,
        forget_batch_size=forget_batch_size,
        t_range=range(38, 42),
        sample_shape=(1, 4, 4),
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def test_retained_conditions_come_first_and_forgotten_ones_after():
    c, forgotten = draw().c, draw().forgotten
    assert c.shape == forgotten.shape == (500,)
    assert not forgotten[:300].any()
    assert forgotten[300:].all()
    assert set(c[:300].tolist()) == {1, 2, 5}
    assert set(c[300:].tolist()) == {0, 4}


def test_every_condition_is_as_likely_as_any_other():
    # Binomial standard deviations: √(30000·⅓·⅔) = 82 and √(20000·½·½) = 71; five of them are allowed.
    c = draw(batch_size=30_000, forget_batch_size=20_000).c
    counts = c.bincount()
    assert all(abs(int(counts[label]) - 10_000) < 5 * 82 for label in (1, 2, 5))
    assert all(abs(int(counts[label]) - 10_000) < 5 * 71 for label in (0, 4))


def test_diffusion_steps_are_drawn_from_the_least_to_below_the_greatest():
    assert set(draw().t.tolist()) == {38, 39, 40, 41}


def test_both_noises_are_standard_normal_and_not_one_another():
    update = draw()
    for noise in (update.z, update.epsilon):  # 8000 values: the mean's standard error is 0.011
        assert abs(float(noise.mean())) < 0.05
        assert float(noise.std()) == pytest.approx(1, abs=0.04)
    assert abs(float((update.z * update.epsilon).mean())) < 0.05


def test_alternatives_are_retained_conditions():
    assert set(draw().alternative.tolist()) == {1, 2, 5}


def test_a_seed_gives_the_same_draw_again():
    first, again, other = draw(seed=1), draw(seed=1), draw(seed=2)
    for name in ("c", "forgotten", "dropped", "alternative", "z", "t", "epsilon"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.z, other.z)


@pytest.mark.parametrize("rows", [slice(1, None, 2), torch.tensor([3, 0])])
def test_some_of_the_samples_are_a_draw_too(rows):
    whole = draw(batch_size=3, forget_batch_size=2)
    part = whole[rows]
    assert len(whole) == 5
    assert len(part) == 2
    for name in ("c", "forgotten", "dropped", "alternative", "z", "t", "epsilon"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name


def test_nothing_is_forgotten_by_a_task_that_forgets_nothing():
    update = draw(ForgettingTask.nothing(range(4)))
    assert len(update) == 300
    assert not update.forgotten.any()
    assert set(update.c.tolist()) == {0, 1, 2, 3}


def test_a_fixed_override_replaces_each_forgotten_class_by_its_own():
    c = torch.tensor([4, 0, 0, 4])
    c_o = FixedOverride({0: 5, 4: 1})(c, torch.zeros(4), torch.zeros(4, 1, 2, 2))
    assert c_o.tolist() == [1, 5, 5, 1]
    assert c_o.dtype == c.dtype


def test_a_random_override_is_the_alternative_that_was_drawn_for_the_sample():
    alternative = torch.tensor([1, 5, 2])
    c_o = RandomOverride()(torch.tensor([0, 0, 4]), alternative, torch.zeros(3, 1, 2, 2))
    assert torch.equal(c_o, alternative)


def test_a_classifier_override_is_the_likeliest_class_that_is_not_forgotten():
    logits = torch.tensor([[9.0, 1.0, 2.0, 0.0, 8.0], [0.0, 3.0, 2.0, 1.0, 5.0], [-1.0, -5.0, -4.0, -3.0, -2.0]])
    unchanged = logits.clone()
    seen = []

    def classifier(images):
        seen.append(images)
        return logits

    x_psi = torch.randn(3, 1, 2, 2)
    c_o = ClassifierOverride(classifier, excluded=(0, 4))(torch.tensor([0, 4, 0]), torch.zeros(3), x_psi)
    assert c_o.tolist() == [2, 1, 3]
    assert seen == [x_psi]
    assert torch.equal(logits, unchanged)


def test_of_some_conditions_the_fake_score_is_not_told():
    told, some = draw(), draw(condition_dropout=0.25)
    assert not told.dropped.any()
    assert 80 < int(some.dropped.sum()) < 170  # 125, and a standard deviation of 10
    assert 0 < int((some.dropped & some.forgotten).sum()) < int(some.forgotten.sum())
