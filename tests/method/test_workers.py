"""Data-parallel workers, in processes of their own that talk over gloo."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model
from torch import multiprocessing
from update_cases import FORGET, broken_for, gradients, trainer

from sfd_sweep.config import Resources
from sfd_sweep.errors import TrialFailed
from sfd_sweep.models.data_parallel import on_first_worker

UNEVEN = {"batch_size": 5, "forget_batch_size": 2, "guidance_scale": 1.5}
ONE_EACH = {"batch_size": 1, "forget_batch_size": 1}


def train(one, steps=3):
    losses = [one.update() for _ in range(steps)]
    return {
        **one.state(),
        "losses": torch.stack([value for each in losses for value in (each.fake_score, each.generator)]),
    }


def train_unevenly():
    return train(trainer(**UNEVEN))


def train_in_micro_batches():
    return train(trainer(**UNEVEN, resources=Resources(micro_batch_size=2, activation_checkpointing=True)))


def train_while_one_worker_has_nothing_to_do():
    """With attention, which refuses empty batches."""
    one = trainer(
        tiny_model(attention=True), batch_size=1, forget_batch_size=0, resources=Resources(micro_batch_size=1)
    )
    return train(one)


def train_while_one_worker_has_nothing_finite():
    """Of one retained and one forgotten sample the first worker gets the one, and the second the other."""
    one = trainer(tiny_model(attention=True), broken_for(FORGET, attention=True), **ONE_EACH)
    dropped = [one.update().dropped_samples for _ in range(2)]
    return {**one.state(), "dropped": torch.tensor(dropped)}


def train_in_micro_batches_that_are_not_all_finite():
    one = trainer(tiny_model(), broken_for(2), **UNEVEN, resources=Resources(micro_batch_size=2))
    return {**train(one), "dropped": torch.tensor(one.update().dropped_samples)}


def train_adapters():
    return train(trainer(tiny_model(attention=True), **UNEVEN, lora_rank=2))


def train_while_gradients_overflow_on_the_first():
    """At the first scale of the generator's loss; the others must halve it too."""
    one = trainer(**UNEVEN)
    one.generator_optimizer.scaler = scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))

    def overflow(gradient):
        first = not dist.is_initialized() or dist.get_rank() == 0
        return torch.full_like(gradient, torch.inf) if first and scaler.get_scale() == 2.0**16 else gradient

    next(one.generator.model.parameters()).register_hook(overflow)
    return train(one)


def update_in_bfloat16():
    """Adam's first step is of one size whatever the gradient's, so weights would show its sign alone."""
    one = trainer(**UNEVEN, resources=Resources(precision="bfloat16"))
    losses = one.update()
    return {
        "losses": torch.stack([losses.fake_score, losses.generator]),
        "fake_score": gradients(one.fake_score),
        "generator": gradients(one.generator.model),
    }


def fail_on_the_first():
    def fail():
        if dist.get_rank() > 0:
            raise AssertionError("only the first worker does it")
        raise TrialFailed("images are not finite")

    try:
        on_first_worker(fail)
    except TrialFailed as error:
        return {"failed": torch.tensor(str(error) == "images are not finite")}
    return {"failed": torch.tensor(False)}


def answer_on_the_first():
    rank = dist.get_rank()
    return {"answer": torch.tensor(on_first_worker(lambda: f"of worker {rank}") == "of worker 0")}


RUNS = {
    "train": train_unevenly,
    "micro": train_in_micro_batches,
    "empty": train_while_one_worker_has_nothing_to_do,
    "broken": train_while_one_worker_has_nothing_finite,
    "broken micro": train_in_micro_batches_that_are_not_all_finite,
    "adapters": train_adapters,
    "overflow": train_while_gradients_overflow_on_the_first,
}
ANSWER = {"answer": answer_on_the_first}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, run in {**RUNS, "bfloat16": update_in_bfloat16, "failure": fail_on_the_first, **ANSWER}.items():
        save_file(run(), f"{folder}/{name}-{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(name="results", scope="module")
def _results(tmp_path_factory):
    """What each of two workers found, by run and rank."""
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return {path.stem: load_file(path) for path in Path(folder).glob("*.safetensors")}


@pytest.mark.parametrize("name", RUNS)
def test_two_workers_train_the_generator_that_one_trains(results, name):
    alone = RUNS[name]()
    for rank in range(2):
        together = results[f"{name}-{rank}"]
        assert together.keys() == alone.keys()
        for key in alone:
            torch.testing.assert_close(together[key], alone[key], rtol=1e-3, atol=1e-5)


def test_two_workers_find_the_losses_and_gradients_that_one_finds_in_bfloat16(results):
    alone = update_in_bfloat16()
    for rank in range(2):
        together = results[f"bfloat16-{rank}"]
        for key, expected in alone.items():
            torch.testing.assert_close(together[key], expected, rtol=0, atol=0.03 * float(expected.abs().max()))


@pytest.mark.parametrize("name", [*RUNS, "bfloat16"])
def test_two_workers_stay_equal_bit_for_bit(results, name):
    first, second = results[f"{name}-0"], results[f"{name}-1"]
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_what_is_not_finite_on_any_worker_is_counted_on_all(results):
    assert [results[f"broken-{rank}"]["dropped"].tolist() for rank in range(2)] == [[2, 2], [2, 2]]


def test_a_failure_on_the_first_worker_fails_the_trial_on_all(results):
    assert all(results[f"failure-{rank}"]["failed"] for rank in range(2))


def test_the_result_of_the_first_worker_is_known_to_all(results):
    assert all(results[f"answer-{rank}"]["answer"] for rank in range(2))


def test_an_overflow_on_any_worker_halves_the_scale_on_all(results):
    found = [float(results[f"overflow-{rank}"]["generator_loss_scale.value"]) for rank in range(2)]
    assert found == [2.0**15] * 2


def test_workers_exchange_adapters_alone(results):
    assert not [name for name in results["adapters-0"] if "base_layer" in name]
