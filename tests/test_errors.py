"""Errors in one line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from sfd_sweep.errors import UserError, first_line
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.training_job import Checkpoints


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n  first \nsecond"), "first"),
        (OSError(), "OSError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_an_error_without_a_message_is_named_by_its_type(error: Exception, line: str) -> None:
    assert first_line(error).strip() == line


def test_an_error_without_a_message_is_told_in_one_line(tmp_path: Path) -> None:
    def refuse(_state: object) -> None:
        raise RuntimeError

    checkpoints = Checkpoints(Folder.open(tmp_path), 1)
    checkpoints.folder.write("state", save({"weight": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"cannot resume from .*/state \(RuntimeError\)"):
        checkpoints.load("state", refuse)
