"""Files of what training depends on, which may be larger than half of a machine's memory."""

import errno
import resource
import tracemalloc
from contextlib import contextmanager

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from sfd_sweep.models.training_state import read_state, write_state
from sfd_sweep.storage.folder import Folder

STATE = {"model.weight": torch.randn(2**20, generator=torch.Generator().manual_seed(0)), "step": torch.tensor(7)}
BYTES = 4 * 2**20


@contextmanager
def files_of_at_most(size):
    """A block in which the operating system refuses to write files beyond a size, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_is_written_is_read_and_is_a_file_of_safetensors(tmp_path):
    folder = Folder.open(tmp_path)
    write_state(folder, "state", STATE)
    found = read_state(folder, "state")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    assert folder.read("state") == save(STATE)


def test_the_file_is_in_memory_neither_when_it_is_written_nor_when_it_is_read(tmp_path):
    folder = Folder.open(tmp_path)
    tracemalloc.start()
    try:
        write_state(folder, "state", STATE)
        found = read_state(folder, "state")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert torch.equal(found["model.weight"], STATE["model.weight"])
    assert most < BYTES / 4


def test_what_was_read_may_be_trained_on_while_the_file_stays_or_goes(tmp_path):
    folder = Folder.open(tmp_path)
    write_state(folder, "state", STATE)
    found, before = read_state(folder, "state")["model.weight"], folder.read("state")
    found.mul_(2)
    assert folder.read("state") == before
    folder.remove("state")
    assert torch.equal(found, 2 * STATE["model.weight"])


def test_a_disk_without_space_is_told_by_the_error_of_the_system_and_the_earlier_file_stays(tmp_path):
    folder = Folder.open(tmp_path)
    folder.write("state", b"earlier")
    with pytest.raises(OSError, match="File too large") as refused, files_of_at_most(BYTES // 2):
        write_state(folder, "state", STATE)
    assert refused.value.errno == errno.EFBIG
    assert (folder.read("state"), folder.files()) == (b"earlier", ["state"])


def test_a_broken_file_and_none_are_told_apart(tmp_path):
    folder = Folder.open(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_state(folder, "state")
    folder.write("state", save(STATE)[:-1])
    with pytest.raises(SafetensorError):
        read_state(folder, "state")
