"""Pickle files may hold arrays and nothing that runs."""

import functools
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from sfd_sweep.datasets.named_datasets import unpickle_arrays
from sfd_sweep.errors import UserError


class _Runs:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_numbers_and_text_come_back(tmp_path: Path, protocol: int) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    content = {b"data": array, "labels": [1, 2], "mean": np.float32(0.5), "turned": np.asfortranarray(array)}
    (tmp_path / "a").write_bytes(pickle.dumps(content, protocol))
    read = unpickle_arrays(tmp_path / "a")
    assert read.keys() == content.keys()
    np.testing.assert_array_equal(read[b"data"], array)
    np.testing.assert_array_equal(read["turned"], array)
    assert (read["labels"], read["mean"]) == ([1, 2], 0.5)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_file_that_would_run_a_program_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps({"data": _Runs(tmp_path / "ran")}, protocol))
    with pytest.raises(UserError, match=r"a asks for (posix|nt)\.system, where only arrays belong"):
        unpickle_arrays(tmp_path / "a")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [Path("x"), functools.partial(int), np.random.default_rng(0), eval, np.load])
def test_anything_but_arrays_is_refused(tmp_path: Path, value: object) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match="asks for"):
        unpickle_arrays(tmp_path / "a")


@pytest.mark.parametrize("keep", [0, 1, 20, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    content = pickle.dumps({"data": np.zeros((9, 9), np.uint8)})
    (tmp_path / "a").write_bytes(content[:keep])
    with pytest.raises(UserError, match="is no whole pickle file"):
        unpickle_arrays(tmp_path / "a")
