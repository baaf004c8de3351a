"""Methods on two workers, in processes of their own that talk over gloo."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from test_replay_methods import METHODS, method
from torch import multiprocessing

from sfd_sweep.audit.kept import Kept
from sfd_sweep.storage.folder import Folder

STEPS = 3


def train(name: str, folder: Path) -> dict[str, torch.Tensor]:
    one = method(name, kept=Kept(Folder.open(folder / "kept")).get)
    for _ in range(STEPS):
        one.update()
    return dict(one.generator.model.state_dict())


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in METHODS:
        save_file(train(name, Path(folder)), f"{folder}/{name}-{rank}.safetensors")
        dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_two_workers_train_the_generator_that_one_trains(folder, name, tmp_path):
    alone = train(name, tmp_path)
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in range(2))
    for key in alone:
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], alone[key], rtol=1e-3, atol=1e-5)
