"""Output of a process in a file: all of it, as it comes, on a disk and in a bucket."""

import os
import subprocess
import sys
import time

import pytest

from sfd_sweep.storage import output
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.output import output_to


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    if request.param == "disk":
        return Folder.open(tmp_path) / "logs"
    return Folder.open(request.getfixturevalue("store").uri(f"bucket/{tmp_path.name}"))


PROGRAM = """
import os, subprocess, sys
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.output import output_to

for _ in range(2):
    with output_to(Folder.open(sys.argv[1]), "worker-0.log"):
        print("printed")
        print("an error", file=sys.stderr)
        os.write(2, b"by a library\\n")
        subprocess.run(["echo", "by a program"], check=True)
print("outside")
"""


def test_everything_that_is_written_goes_to_the_end_of_the_file_and_then_to_where_it_went_before(folder):
    # A process of its own: pytest replaces Python's streams.
    done = subprocess.run([sys.executable, "-u", "-c", PROGRAM, folder.uri], capture_output=True, text=True, check=True)
    assert folder.read("worker-0.log").decode() == 2 * "printed\nan error\nby a library\nby a program\n"
    assert (done.stdout, done.stderr) == ("outside\n", "")


def test_the_file_grows_while_the_block_runs(folder, monkeypatch):
    monkeypatch.setattr(output, "UPLOAD_SECONDS", 0.05)
    with output_to(folder, "worker-0.log"):
        os.write(1, b"first\n")
        end = time.monotonic() + 20
        while not (folder.has("worker-0.log") and folder.read("worker-0.log") == b"first\n"):
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path, capfd):
    (tmp_path / "logs").write_text("a file")
    with output_to(Folder.open(tmp_path / "logs"), "worker-0.log"):
        print("printed")
    assert capfd.readouterr().out == "printed\n"


def test_an_error_in_the_block_is_that_of_the_block(folder):
    with pytest.raises(ValueError, match="a defect"), output_to(folder, "worker-0.log"):
        raise ValueError("a defect")
