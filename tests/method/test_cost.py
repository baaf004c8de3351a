"""The cost of an update, against the passes that networks really make, and steps of equal cost."""

import pytest
import torch
from tiny_models import tiny_model
from update_cases import FORGET_0, settings

from sfd_sweep.config import Resources
from sfd_sweep.method.cost import update_cost, updates_until
from sfd_sweep.method.equal_cost import EqualCostSteps
from sfd_sweep.method.methods import unlearning
from sfd_sweep.method.rivals.replay import Models

SIZES = {"batch_size": 5, "forget_batch_size": 3, "fisher_samples": 2, "teacher_samples": 2}


def started(**changes):
    models = Models(tiny_model(seed=1), tiny_model(seed=2), lambda _what, compute: compute())
    return unlearning(models, FORGET_0, settings(**{**SIZES, **changes}), seed=0, resources=Resources())


def passes_of(one, monkeypatch):
    """Count samples forward, and backward once for inputs and once for weights, through all networks of an update."""
    counted = 0

    def count(layer, inputs, output):
        nonlocal counted
        counted += len(output)
        if output.requires_grad:

            def add(_gradient):
                nonlocal counted
                counted += len(output) * (1 + layer.weight.requires_grad)

            output.register_hook(add)

    networks = [one.generator.model.network]
    networks += [model.network for model in (getattr(one, "teacher", None), getattr(one, "fake_score", None)) if model]
    networks += [one.start.model.network] if hasattr(one, "start") else []
    handles = [network.conv_out.register_forward_hook(count) for network in networks]
    one.update()
    for handle in handles:
        handle.remove()
    return counted


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "sfd"},
        {"method": "sfd", "guidance_scale": 1.5},
        {"method": "sfd", "fake_score_training_guidance_scale": 1.5, "fake_score_guidance_scale": 2.0},
        {"method": "sfd", "loss": "diff_instruct"},
        {"method": "finetune", "guidance_scale": 1.5},
        {"method": "ascent"},
        {"method": "esd"},
        {"method": "sa"},
        {"method": "salun"},
    ],
)
def test_the_stated_cost_is_that_of_the_passes_that_are_made(changes, monkeypatch):
    one = started(**changes)
    assert passes_of(one, monkeypatch) == update_cost(one.settings)


def test_methods_that_train_nothing_cost_nothing():
    assert update_cost(settings(method="swap")) == update_cost(settings(method="uce")) == 0


@pytest.mark.parametrize(("cost", "expected"), [(10, [1, 2, 3]), (5, [2, 4, 6]), (15, [0, 1, 2]), (0, [1, 2, 3])])
def test_a_step_pays_for_updates_with_what_earlier_steps_have_left(cost, expected):
    assert [updates_until(step, 10, cost) for step in (1, 2, 3)] == expected


def test_steps_of_equal_cost_do_the_same_updates_as_the_method_alone():
    alone, whole, first, second = (started(method="sa", forget_weight=1) for _ in range(4))
    losses = [alone.update() for _ in range(6)]
    paid = EqualCostSteps(whole, step_cost=3, update_cost=2)
    reported = [paid.update() for _ in range(4)]
    assert (paid.step, whole.step) == (4, 6)
    expected = torch.stack([losses[1].generator, losses[2].generator]).mean()
    assert torch.equal(reported[1].generator, expected)
    assert all(torch.equal(whole.state()[name], tensor) for name, tensor in alone.state().items())
    before, after = (EqualCostSteps(one, step_cost=3, update_cost=2) for one in (first, second))
    for _ in range(2):
        before.update()
    after.load_state({name: tensor.clone() for name, tensor in before.state().items()})
    for _ in range(2):
        after.update()
    assert (after.step, second.step) == (4, 6)
    assert all(torch.equal(after.state()[name], tensor) for name, tensor in paid.state().items())


def test_a_step_that_pays_for_no_update_has_no_loss():
    one = EqualCostSteps(started(method="sa"), 1, 2)
    assert one.update().by_name == {}
    assert set(one.update().by_name) == {"generator", "penalty"}
