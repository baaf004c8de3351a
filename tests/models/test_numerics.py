"""The switches of a GPU's float32 products, which can be set without one."""

import pytest
import torch

from sfd_sweep.models.numerics import float32_products


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
