"""A run is its settings and its seed, however often it is interrupted."""

import pytest
import torch
from safetensors.torch import load, save
from update_cases import trainer

GUIDED = {"guidance_scale": 1.5, "beta1": 0.5}


def after(steps, one):
    for _ in range(steps):
        one.update()
    return one


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_equal_seeds_train_equally_bit_for_bit():
    assert_equal(after(3, trainer(**GUIDED)).state(), after(3, trainer(**GUIDED)).state())


def test_another_seed_trains_otherwise():
    first, other = (after(1, trainer(seed=seed)).state() for seed in (0, 1))
    name = "generator.network.conv_in.weight"
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("interrupted_at", [0, 5])
def test_a_run_that_goes_on_from_a_file_ends_as_one_without_interruption(interrupted_at):
    whole = after(10, trainer(**GUIDED))
    first = after(interrupted_at, trainer(**GUIDED))
    second = trainer(**GUIDED, seed=99)
    second.load_state(load(save(first.state())))
    assert second.step == interrupted_at
    assert_equal(after(10 - interrupted_at, second).state(), whole.state())
