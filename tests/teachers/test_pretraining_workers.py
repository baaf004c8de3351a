"""Pretraining on two workers, in processes of their own that talk over gloo."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import multiprocessing

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.pretraining import pretrain
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.training_job import Checkpoints

RECIPES = {
    "uneven": Pretraining(channels=(8, 8), norm_groups=4, steps=6, batch_size=7, micro_batch_size=3),
    "one image": Pretraining(channels=(8, 8), norm_groups=4, steps=3, batch_size=1),
}


def train(name: str, folder: Path) -> dict[str, torch.Tensor]:
    losses = []
    model = pretrain(
        load_images("builtin:digits"),
        recipe=RECIPES[name],
        checkpoints=Checkpoints(Folder.open(folder / f"{name}-state"), 3),
        progress=lambda step, steps, loss: losses.append(loss),
    )
    return {**model.state_dict(), "losses": torch.tensor(losses)}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in RECIPES:
        save_file(train(name, Path(folder)), f"{folder}/{name}-{rank}.safetensors")
        dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_two_workers_train_the_teacher_that_one_trains(folder, name, tmp_path):
    alone = train(name, tmp_path)
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in range(2))
    for key in alone:
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], alone[key], rtol=1e-3, atol=1e-5)


def test_one_worker_resumes_from_the_state_of_two(folder):
    together = load_file(folder / "uneven-0.safetensors")
    resumed = train("uneven", folder)
    assert len(resumed.pop("losses")) == 0
    for key, tensor in resumed.items():
        assert torch.equal(tensor, together[key]), key
