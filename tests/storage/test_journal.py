"""The study's journal: the same on a disk and in an object store."""

import errno
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from stub_runtime import make_space

from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage import journal as module
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.journal import Journal, has_lines


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder.open(tmp_path / "sweep" / "study")
    return Folder.open(request.getfixturevalue("store").uri(f"bucket/{uuid.uuid4().hex}/study"))


def opened(folder: Folder) -> Journal:
    return Journal(folder, lambda: None)


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"number": number, "text": "a\nb\r\u2028", "figure": float("inf")} for number in numbers]


def test_what_is_appended_is_read_from_any_line_on_now_and_by_the_next_driver(folder: Folder) -> None:
    journal = opened(folder)
    assert list(journal.read_logs(0)) == []
    journal.append_logs(numbered(0, 1))
    journal.append_logs(numbered(2))
    for each in (journal, opened(folder)):
        assert list(each.read_logs(0)) == numbered(0, 1, 2)
        assert list(each.read_logs(2)) == numbered(2)
        assert list(each.read_logs(3)) == []


def test_every_append_is_a_file_and_opening_makes_one_of_them(folder: Folder) -> None:
    journal = opened(folder)
    journal.append_logs(numbered(0, 1))
    journal.append_logs(numbered(2))
    assert folder.names() == ["00000000-00000001.jsonl", "00000002-00000002.jsonl"]
    opened(folder)
    assert folder.names() == ["00000000-00000002.jsonl"]
    opened(folder)
    assert folder.names() == ["00000000-00000002.jsonl"]


def test_what_is_appended_at_once_is_one_file(folder: Folder) -> None:
    journal = opened(folder)
    with journal.at_once():
        journal.append_logs(numbered(0))
        journal.append_logs(numbered(1))
        assert list(journal.read_logs(0)) == numbered(0, 1)
        assert folder.names() == []
    assert folder.names() == ["00000000-00000001.jsonl"]
    with journal.at_once():
        pass
    assert folder.names() == ["00000000-00000001.jsonl"]


def test_nothing_is_written_of_what_is_appended_at_once_and_fails(folder: Folder) -> None:
    journal = opened(folder)

    def fail() -> None:
        with journal.at_once():
            journal.append_logs(numbered(0))
            raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        fail()
    assert folder.names() == []
    journal.append_logs(numbered(1))  # the process continues: nothing is missing
    assert list(opened(folder).read_logs(0)) == numbered(0, 1)


def test_files_stay_few_and_lines_are_written_a_few_times(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MERGED", 3)
    written, write = [], Folder.write

    def counted(self: Folder, name: str, content: bytes) -> None:
        written.append(content.count(b"\n"))
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", counted)
    journal = opened(folder)
    for number in range(40):
        journal.append_logs(numbered(number))
        assert len(folder.names()) <= 2 * 4  # at most two of each of the sizes 1, 3, 9 and 27
    assert folder.names() == [
        *("00000000-00000026.jsonl", "00000027-00000035.jsonl"),
        *("00000036-00000038.jsonl", "00000039-00000039.jsonl"),
    ]
    assert sum(written) == 40 + 39 + 36 + 27
    assert list(opened(folder).read_logs(0)) == numbered(*range(40))


def test_a_merge_that_was_cut_short_loses_and_doubles_nothing(folder: Folder) -> None:
    journal = opened(folder)
    for number in range(3):
        journal.append_logs(numbered(number))
    both = folder.read("00000000-00000000.jsonl") + folder.read("00000001-00000001.jsonl")
    folder.write("00000000-00000001.jsonl", both)  # and the two were not removed any more
    folder.write("00000003-00000003.jsonl.0123456789.part", b'{"half": ')
    again = opened(folder)
    assert list(again.read_logs(0)) == numbered(0, 1, 2)
    again.append_logs(numbered(3))
    assert list(opened(folder).read_logs(0)) == numbered(0, 1, 2, 3)


def test_missing_lines_are_told(folder: Folder) -> None:
    journal = opened(folder)
    for number in range(3):
        journal.append_logs(numbered(number))
    folder.remove("00000001-00000001.jsonl")
    with pytest.raises(UserError, match="no segment that continues at line 1; restore the file"):
        opened(folder)


def test_a_file_with_too_few_lines_is_told(folder: Folder) -> None:
    opened(folder).append_logs(numbered(0, 1))
    folder.write("00000000-00000001.jsonl", b"{}\n")
    with pytest.raises(UserError, match=r"00000000-00000001.jsonl has 1 lines, not 2; restore the file"):
        opened(folder)


def test_a_storage_that_refuses_stops_the_sweep_and_says_why(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(folder)
    refusal = OSError("When putting: AWS Error ACCESS_DENIED during PutObject operation")
    monkeypatch.setattr(Folder, "write", lambda *_: (_ for _ in ()).throw(refusal))
    with pytest.raises(SweepFailed, match="cannot be written to .*access is denied.*sfd-sweep resume"):
        journal.append_logs(numbered(0))


def refuse(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the storage answer 503 so many times."""
    write, left = Folder.write, iter(range(times))

    def answer(self: Folder, name: str, content: bytes) -> None:
        if next(left, None) is not None:
            raise OSError("When putting: AWS Error UNKNOWN (HTTP status 503) during PutObject operation")
        write(self, name, content)

    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(Folder, "write", answer)


def test_a_storage_that_is_away_for_a_while_is_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(20, monkeypatch)
    opened(folder).append_logs(numbered(0))
    assert list(opened(folder).read_logs(0)) == numbered(0)


def test_a_storage_that_stays_away_is_waited_for_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    refuse(10_000, monkeypatch)
    journal, spent = opened(folder), []
    for number in range(2):
        began = time.monotonic()
        with pytest.raises(SweepFailed, match="HTTP status 503"):
            journal.append_logs(numbered(number))
        spent.append(time.monotonic() - began)
    assert spent[0] >= 0.2 > spent[1]


def test_a_full_disk_is_not_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(Folder, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(SweepFailed, match="No space left"):
        opened(folder).append_logs(numbered(0))


def test_a_study_comes_back_from_where_it_was_put(folder: Folder, tmp_path: Path) -> None:
    space = make_space(tmp_path)
    study = SweepStudy(space, folder.parent)
    first, second = study.ask(), study.ask()
    study.fail(first, "it diverged")
    again = SweepStudy(space, folder.parent)
    assert again.running() == [second]
    assert again.trials() == study.trials()


def test_a_half_written_file_is_no_journal(folder: Folder) -> None:
    folder.write("00000000-00000003.jsonl.1a2b.part", b"{")
    assert not has_lines(folder)
    Journal(folder, lambda: None).append_logs([{"op": 0}])
    assert has_lines(folder)
