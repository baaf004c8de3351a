"""One driver a sweep."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sfd_sweep.errors import UserError
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import locked, one_driver

HOLD = """
import sys
from pathlib import Path
from sfd_sweep.storage.lock import locked
with locked(Path(sys.argv[1]), option="storage"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_told_who_has_the_sweep(tmp_path: Path) -> None:
    process = holder(tmp_path / "sweep")
    expected = rf"sweep is being run by process {process.pid} on {socket.gethostname()}"
    with pytest.raises(UserError, match=expected), locked(tmp_path / "sweep", option="storage"):
        pass
    process.communicate("")
    with locked(tmp_path / "sweep", option="storage"):
        pass


def test_the_lock_of_a_killed_driver_is_free(tmp_path: Path) -> None:
    process = holder(tmp_path / "sweep")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with locked(tmp_path / "sweep", option="storage"):
        pass


def test_a_folder_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "sweep"
    with pytest.raises(UserError, match="^storage: .* cannot be written"), one_driver(Folder.open(place)):
        pass
    with pytest.raises(UserError, match="^--out: .* cannot be written"), locked(place, option="--out"):
        pass
