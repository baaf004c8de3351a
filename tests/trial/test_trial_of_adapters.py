"""A trial that trains low-rank adapters: to all others it is a trial like any."""

import pytest
import torch
from trial_cases import digits_settings, digits_space

from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import TRAINING_STATE, step_folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

SPACE = digits_space()
ADAPTERS = digits_settings(SPACE, lora_rank=2)


@pytest.fixture(name="context", scope="module")
def _context():
    return TrialContext.build(resolve_sweep(SPACE), None)


def test_it_goes_on_from_a_small_state_to_the_same_plain_generator(context, tmp_path):
    interrupted, whole = (Folder.open(tmp_path / name) for name in ("interrupted", "whole"))
    trial = TrialRunner(context, ADAPTERS, whole)
    first = trial.advance(2)
    assert TrialRunner(context, ADAPTERS, interrupted).advance(2).metrics == first.metrics
    size = len(step_folder(interrupted, 2).read(TRAINING_STATE))
    assert size < 0.5 * context.plan.training_state_bytes
    assert TrialRunner(context, ADAPTERS, interrupted).advance(4).metrics == trial.advance(4).metrics
    one, other = (load_generator(folder, 4) for folder in (interrupted, whole))
    assert torch.equal(one.sample([1, 2]), other.sample([1, 2]))
    assert one.model.state_dict().keys() == context.start.state_dict().keys()


def test_a_trial_of_all_weights_after_it_trains_all_weights(context):
    context.unlearning(ADAPTERS).update()
    one = context.unlearning(digits_settings(SPACE))
    before = [parameter.detach().clone() for parameter in one.generator.model.parameters()]
    one.update()
    moved = [not torch.equal(*pair) for pair in zip(before, one.generator.model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
