"""What a checkpoint of research code holds, and what is refused before it can do harm."""

import os
import pickle
import sys
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sfd_sweep.errors import UserError
from sfd_sweep.teachers.research_checkpoint import Network, ResearchCheckpoint, Weights

TEACHER, GENERATOR, FAKE_SCORE = Network
EMA, RAW = Weights
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-5}]}


def state(value: float, prefix: str = "") -> OrderedDict[str, torch.Tensor]:
    """A state dict that is known by its value."""
    return OrderedDict({f"{prefix}conv_in.weight": torch.full((2,), value)})


def saved(folder: Path, content: object, **options) -> Path:
    torch.save(content, folder / "ckpt.pth", **options)
    return folder / "ckpt.pth"


def read(folder: Path, content: object) -> ResearchCheckpoint:
    return ResearchCheckpoint.read(saved(folder, content))


def chosen(checkpoint: ResearchCheckpoint, network=None, weights=None) -> tuple[Network, Weights, float]:
    found = checkpoint.choose(network, weights)
    assert found.origin == checkpoint.path
    assert list(found.tensors) == ["conv_in.weight"]
    return found.network, found.weights, float(found.tensors["conv_in.weight"][0])


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        ResearchCheckpoint.read(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([state(1), OPTIMIZER, 799_999], id="step"),
        pytest.param([state(1), OPTIMIZER, 99, 799_999], id="epoch and step"),
    ],
)
def test_a_list_with_one_network_is_a_teacher_whose_average_is_preferred(tmp_path, before):
    checkpoint = read(tmp_path, [*before, state(2)])
    assert chosen(checkpoint) == (TEACHER, EMA, 2)
    assert chosen(checkpoint, weights=RAW) == (TEACHER, RAW, 1)
    assert chosen(read(tmp_path, before)) == (TEACHER, RAW, 1)


def test_a_list_with_a_fake_score_first_is_distilled_and_its_generator_is_preferred(tmp_path):
    distilled = [state(1), OPTIMIZER, state(2), OPTIMIZER, 49_999]
    checkpoint = read(tmp_path, [*distilled, state(3)])
    assert chosen(checkpoint) == (GENERATOR, EMA, 3)
    assert chosen(checkpoint, weights=RAW) == (GENERATOR, RAW, 2)
    assert chosen(checkpoint, FAKE_SCORE) == (FAKE_SCORE, RAW, 1)
    assert chosen(read(tmp_path, distilled)) == (GENERATOR, RAW, 2)


def test_an_early_snapshot_holds_the_generator_alone(tmp_path):
    checkpoint = read(tmp_path, [None, None, state(2), None, 99, state(3)])
    assert list(checkpoint.states) == [(GENERATOR, EMA), (GENERATOR, RAW)]
    assert chosen(checkpoint) == (GENERATOR, EMA, 3)


@pytest.mark.parametrize("network", Network)
@pytest.mark.parametrize("content", [state(1), {"model": state(1), "step": 3}, {"state_dict": state(1)}])
def test_a_network_without_a_role_is_what_the_user_says(tmp_path, content, network):
    checkpoint = read(tmp_path, content)
    assert chosen(checkpoint) == (TEACHER, RAW, 1)
    assert chosen(checkpoint, network) == (network, RAW, 1)


def test_a_dict_names_its_networks(tmp_path):
    assert chosen(read(tmp_path, {"model": state(1), "ema": state(2), "optimizer": OPTIMIZER})) == (TEACHER, EMA, 2)
    distilled = read(tmp_path, {"fake_score": state(1), "generator": state(2), "ema": state(3)})
    assert [chosen(distilled), chosen(distilled, FAKE_SCORE)] == [(GENERATOR, EMA, 3), (FAKE_SCORE, RAW, 1)]
    both = read(tmp_path, {"teacher": state(1), "generator": state(2), "ema": state(3)})
    assert [chosen(both, TEACHER), chosen(both, GENERATOR)] == [(TEACHER, RAW, 1), (GENERATOR, EMA, 3)]


def test_the_names_of_a_data_parallel_wrapper_are_those_of_the_network(tmp_path):
    checkpoint = read(tmp_path, [state(1, "module."), OPTIMIZER, 3, state(2)])
    assert chosen(checkpoint) == (TEACHER, EMA, 2)
    assert chosen(checkpoint, weights=RAW) == (TEACHER, RAW, 1)


def test_a_file_of_the_format_before_zip_is_read(tmp_path):
    path = saved(tmp_path, [state(1), OPTIMIZER, 3], _use_new_zipfile_serialization=False)
    assert chosen(ResearchCheckpoint.read(path)) == (TEACHER, RAW, 1)


@pytest.mark.parametrize(
    ("content", "network", "weights", "words"),
    [
        ([state(1), OPTIMIZER, 3], None, EMA, "holds no ema; it holds teacher raw"),
        ([state(1), OPTIMIZER, 3, state(2)], GENERATOR, None, "no generator; it holds teacher ema, teacher raw"),
        ([state(1), None, state(2), None, 3, state(3)], FAKE_SCORE, EMA, "holds no fake-score ema; it holds generator"),
    ],
)
def test_what_a_checkpoint_does_not_hold_is_reported_with_what_it_holds(tmp_path, content, network, weights, words):
    with pytest.raises(UserError) as raised:
        read(tmp_path, content).choose(network, weights)
    assert words in str(raised.value)


class Code:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("entry", "name"), [(Code(), "mkdir"), (Namespace(lr=1), "argparse.Namespace")])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, monkeypatch, zipped, entry, name):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, [state(1), OPTIMIZER, 3, entry], _use_new_zipfile_serialization=zipped)
    assert name in refusal(path)
    assert not Path("harm").exists()


class Persistent:
    """An object as `torch_utils.persistence` of EDM, SiD and SiD-LSG pickles it: a function, and the class's source."""

    def __init__(self, rebuild) -> None:
        self.rebuild = rebuild

    def __reduce__(self):
        source = "import os; os.mkdir('harm')"
        return self.rebuild, ({"type": "class", "module_src": source, "class_name": "EDMPrecond", "state": {}},)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_networks_pickled_with_their_code_are_refused_by_the_name_of_the_layout_that_is_read(
    tmp_path, monkeypatch, protocol
):
    monkeypatch.chdir(tmp_path)
    called = []

    def rebuild(meta):
        called.append(meta)

    rebuild.__module__ = "torch_utils.persistence"
    rebuild.__name__ = rebuild.__qualname__ = "_reconstruct_persistent_obj"
    for name in ("torch_utils", "torch_utils.persistence"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["torch_utils.persistence"], rebuild.__name__, rebuild, raising=False)
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(pickle.dumps({"ema": Persistent(rebuild), "loss_fn": None}, protocol))
    message = refusal(path)
    assert "as EDM, SiD and SiD-LSG write them; no code is run" in message
    assert "the one that is read is ddpm" in message
    assert not called
    assert not Path("harm").exists()


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_short_is_refused(tmp_path, share, zipped):
    path = saved(tmp_path, [{"weight": torch.zeros(1000)}, OPTIMIZER], _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "no whole checkpoint" in refusal(path)


@pytest.mark.parametrize("content", [b"weights\n", b"\x80\x04K\x01.", b"PK\x03\x04", b"\x00" * 100])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "ckpt.pth"
    path.write_bytes(content)
    assert "no whole checkpoint" in refusal(path)


def test_a_compiled_module_is_refused_without_a_warning(tmp_path, recwarn):
    path = tmp_path / "ckpt.pth"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    recwarn.clear()
    assert "no whole checkpoint" in refusal(path)
    assert not recwarn


@pytest.mark.parametrize("name", ["nothing.pth", "."])
def test_a_file_that_is_not_there_is_refused(tmp_path, name):
    assert "there is no checkpoint" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [[], {}, 3, torch.zeros(2), [1, 2, 3, 4], [None, OPTIMIZER], {"weights": state(1)}, {"model": {0: torch.ones(2)}}],
)
def test_a_file_without_a_network_is_refused_with_what_is_read(tmp_path, content):
    assert "holds no network" in refusal(saved(tmp_path, content))
