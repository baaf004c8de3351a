"""Streams of random numbers, and the switches of a GPU's float32 products, which can be set without one."""

import subprocess

import pytest
import torch

from sfd_sweep.models.numerics import float32_products, named_seed, random_stream


def switches():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.mark.parametrize(("in_tf32", "inside"), [(True, ("tf32", "tf32")), (False, ("ieee", "ieee"))])
def test_matrices_and_convolutions_are_switched_alike_and_back_again(in_tf32, inside):
    before = switches()
    with float32_products(in_tf32=in_tf32):
        assert switches() == inside
    assert switches() == before


def test_the_switches_nest():
    with float32_products(in_tf32=True):
        with float32_products(in_tf32=False):
            assert switches() == ("ieee", "ieee")
        assert switches() == ("tf32", "tf32")


def test_the_switches_go_back_when_something_is_raised():
    before = switches()
    with pytest.raises(ZeroDivisionError), float32_products(in_tf32=True):
        raise ZeroDivisionError
    assert switches() == before


def test_streams_of_one_seed_are_told_apart_by_name_and_repeat_themselves():
    names = ("training", "evaluation: retained", "final evaluation: retained")
    streams = {(seed, name): random_stream(seed, name) for seed in (0, 1) for name in names}
    draws = {key: tuple(torch.randn(4, generator=stream).tolist()) for key, stream in streams.items()}
    assert len(set(draws.values())) == 6
    assert draws[0, "training"] == tuple(torch.randn(4, generator=random_stream(0, "training")).tolist())


def test_a_named_seed_is_the_head_of_a_sha_256_and_no_seed_that_a_user_writes():
    found = named_seed(0, "training")
    sums = subprocess.run(["sha256sum"], input=b"0 training", capture_output=True, check=True).stdout
    assert f"{found:014x}" == sums.decode()[:14]
    assert found >= 2**32
