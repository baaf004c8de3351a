"""One driver a sweep, in an object store."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid

import pytest
from object_store import ObjectStore

from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.storage import lease as module
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import LOCK, one_driver

HOLD = """
import sys
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import one_driver
with one_driver(Folder.open(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def sweep(store: ObjectStore) -> Folder:
    return Folder.open(store.uri(f"bucket/{uuid.uuid4().hex}/sweep"))


def holder(sweep: Folder) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, sweep.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_told_who_has_the_sweep(sweep: Folder) -> None:
    process = holder(sweep)
    expected = rf"sweep is being run by process {process.pid} on {socket.gethostname()}, last renewed \d+ s ago"
    with pytest.raises(UserError, match=expected), one_driver(sweep):
        pass
    assert len((sweep / LOCK).names()) == 1
    process.communicate("")
    assert (sweep / LOCK).names() == []
    with one_driver(sweep) as check:
        check()


def test_the_lease_of_a_driver_that_was_killed_on_this_machine_is_dead_at_once(sweep: Folder) -> None:
    process = holder(sweep)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with one_driver(sweep) as check:
        check()
        assert len((sweep / LOCK).names()) == 1


def test_a_driver_on_another_machine_is_waited_for_until_its_lease_ends(
    sweep: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"pid": 1, "host": "node-7", "machine": "another"}
    (sweep / LOCK).write("theirs.json", json.dumps(elsewhere).encode())
    expected = r"by process 1 on node-7, .*; if it is gone, its lease ends in 1\d\d s"
    with pytest.raises(UserError, match=expected), one_driver(sweep):
        pass
    monkeypatch.setattr(module, "DEAD_SECONDS", -1.0)
    with one_driver(sweep):
        assert "theirs.json" not in (sweep / LOCK).names()


def test_a_lease_is_renewed(sweep: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed, write = threading.Semaphore(0), Folder.write

    def noted(self: Folder, name: str, content: bytes) -> None:
        write(self, name, content)
        renewed.release()

    monkeypatch.setattr(Folder, "write", noted)
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.05)
    with one_driver(sweep) as check:
        for _ in range(4):
            assert renewed.acquire(timeout=20)
        check()


def test_a_driver_that_could_not_renew_its_lease_writes_no_more_even_when_it_can_again(
    sweep: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.05)
    with one_driver(sweep) as check:
        check()
        monkeypatch.setattr(module, "EXPIRY_SECONDS", -1.0)  # as if it had been suspended for longer than that
        threading.Event().wait(0.5)
        with pytest.raises(SweepFailed, match="the lease of sweep could not be renewed"):
            check()


def test_of_two_that_begin_at_once_never_both_go_on(sweep: Folder) -> None:
    together, outcomes, inside = threading.Barrier(2), [], []

    def begin() -> None:
        together.wait()
        try:
            with one_driver(sweep):
                inside.append(1)
                outcomes.append(len(inside))
                threading.Event().wait(0.5)
                inside.pop()
        except UserError:
            outcomes.append(0)

    for _ in range(3):
        threads = [threading.Thread(target=begin) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(outcomes) == 6
    assert max(outcomes) <= 1
