"""Folders on a disk, and in a file system that knows no rename."""

import threading

import pytest
from pyarrow import fs

from sfd_sweep.errors import UserError
from sfd_sweep.storage import Folder


@pytest.fixture(name="folder", params=["disk", "elsewhere"])
def _folder(request, tmp_path):
    """A folder that is not there yet: on the disk, and in a file system that does not count as one."""
    if request.param == "disk":
        return Folder.open(tmp_path / "a b%20ü" / "folder")
    return Folder(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "deep/folder")


def test_a_path_and_its_uri_are_one_folder(tmp_path):
    (tmp_path / "a b%20ü").mkdir()
    (tmp_path / "a b%20ü" / "x").write_bytes(b"1")
    by_path = Folder.open(tmp_path / "a b%20ü")
    by_uri = Folder.open((tmp_path / "a b%20ü").as_uri())
    assert by_path.path == by_uri.path == str(tmp_path / "a b%20ü")
    assert by_path.is_local
    assert by_uri.read("x") == b"1"


def test_a_relative_path_is_one_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Folder.open("runs/one").path == str(tmp_path / "runs" / "one")


@pytest.mark.parametrize("location", ["cloud://bucket/x", "http://example.org/x"])
def test_a_uri_of_an_unknown_kind_is_refused(location):
    with pytest.raises(UserError, match="Use a path, file://, s3:// or gs://"):
        Folder.open(location)


def test_a_folder_that_is_not_there_is_empty(folder):
    assert folder.names() == []
    assert not folder.has("x")
    folder.remove("x")
    folder.delete()
    with pytest.raises(FileNotFoundError):
        folder.read("x")


def test_what_is_written_is_read(folder):
    folder.write("b", b"first")
    folder.write("a", b"")
    folder.write("b", b"second")
    (folder / "sub").write("c", b"third")
    assert folder.names() == ["a", "b", "sub"]
    assert folder.read("a") == b""
    assert folder.read("b") == b"second"
    assert folder.has("sub")
    assert (folder / "sub").name == "sub"
    assert (folder / "sub").read("c") == b"third"


def test_a_file_or_a_whole_folder_is_removed(folder):
    folder.write("a", b"1")
    folder.write("b", b"2")
    folder.remove("a")
    assert folder.names() == ["b"]
    folder.delete()
    assert folder.names() == []


def test_a_folder_is_copied_with_its_subfolders(folder, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    (source / "top.bin").write_bytes(bytes(range(256)))
    (source / "inner" / "deep.txt").write_text("deep")
    folder.upload(source)
    assert folder.names() == ["inner", "top.bin"]
    folder.download(target)
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == {"top.bin": bytes(range(256)), "inner/deep.txt": b"deep"}


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    folder = Folder.open(tmp_path / "folder")
    folder.write("kept", b"earlier")
    (folder / "taken").write("x", b"")
    with pytest.raises(OSError, match="taken"):
        folder.write("taken", b"a folder of that name is there already")
    assert folder.names() == ["kept", "taken"]
    assert folder.read("kept") == b"earlier"


def test_a_reader_never_sees_half_a_file(tmp_path):
    folder = Folder.open(tmp_path)
    contents = [bytes([value]) * 300_000 for value in range(2)]
    folder.write("x", contents[0])
    done = threading.Event()

    def write():
        for turn in range(200):
            folder.write("x", contents[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(folder.read("x"))
    writer.join()
    assert seen
    assert all(content in contents for content in seen)
