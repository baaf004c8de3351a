"""Folders on a disk and in an object store: what holds of the one holds of the other."""

import pickle
import threading
import uuid

import pytest
from moto.core import enable_iam_authentication

from sfd_sweep.errors import UserError
from sfd_sweep.storage.errors import storage_errors
from sfd_sweep.storage.folder import CHUNK, Folder, below


@pytest.fixture(name="folder", params=["disk", "s3"])
def _folder(request, tmp_path):
    """A folder that is not there yet."""
    if request.param == "disk":
        return Folder.open(tmp_path / "a b%20ü" / "folder")
    return Folder.open(request.getfixturevalue("store").uri(f"bucket/{uuid.uuid4().hex}/deep/folder"))


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


def test_a_file_larger_than_a_chunk_is_copied_whole(folder, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    content = bytes(range(256)) * (CHUNK // 256) + b"and a bit"
    (source / "large.bin").write_bytes(content)
    folder.upload(source)
    folder.download(target)
    assert (target / "large.bin").read_bytes() == content


def test_a_file_that_a_library_writes_by_its_path_is_there_when_it_is_whole(folder):
    folder.write("deep/x", b"earlier")
    for content in (b"first", b"second"):
        with folder.written_at("deep/x") as path:
            path.write_bytes(content)
            assert folder.read("deep/x") != content
        assert folder.read("deep/x") == content
        assert folder.files() == ["deep/x"]


def test_a_file_that_a_library_does_not_finish_leaves_the_earlier_one_and_nothing_else(folder):
    folder.write("x", b"earlier")

    def write_half():
        with folder.written_at("x") as path:
            path.write_bytes(b"half")
            raise ValueError("unfinished")

    with pytest.raises(ValueError, match="unfinished"):
        write_half()
    assert folder.files() == ["x"]
    assert folder.read("x") == b"earlier"


def test_a_file_is_read_by_a_path(folder):
    folder.write("deep/x", b"content")
    with folder.read_at("deep/x") as path:
        assert path.read_bytes() == b"content"
    with pytest.raises(FileNotFoundError), folder.read_at("deep/y"):
        pass
    assert folder.files() == ["deep/x"]


def test_whoever_may_read_the_files_of_a_folder_may_read_those_that_safetensors_writes(tmp_path):
    folder = Folder.open(tmp_path)
    folder.write("plain", b"")
    with folder.written_at("private") as path:
        path.write_bytes(b"")
        path.chmod(0o600)
    assert (tmp_path / "private").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_of_all_subfolders_are_listed_by_their_paths(folder):
    assert folder.files() == []
    for name in ("b", "a/x/y", "a/z"):
        folder.write(name, b"")
    assert folder.files() == ["a/x/y", "a/z", "b"]
    assert (folder / "a").files() == ["x/y", "z"]


def test_what_is_deleted_leaves_its_neighbors(folder):
    for name in ("one/x", "one-more/x", "two"):
        folder.write(name, b"")
    (folder / "one").delete()
    (folder / "two").delete()
    assert folder.files() == ["one-more/x"]


def test_a_later_write_is_modified_later(folder):
    assert folder.modified("x") is None
    folder.write("x", b"1")
    first = folder.modified("x")
    folder.write("x", b"2")
    assert first is not None
    assert folder.modified("x") >= first


def test_a_folder_is_opened_again_by_its_uri_and_in_another_process(folder):
    folder.write("x", b"1")
    assert Folder.open(folder.uri).read("x") == b"1"
    assert pickle.loads(pickle.dumps(folder)).read("x") == b"1"
    inner = folder / "inner"
    assert Folder.open(inner.uri).path == inner.path
    assert inner.parent == folder


def test_a_folder_below_a_location_keeps_the_options_of_a_uri():
    assert below("runs", "x") == "runs/x"
    assert below("s3://bucket/a/?region=b", "x") == "s3://bucket/a/x?region=b"
    assert below("s3://bucket", "x") == "s3://bucket/x"


def test_an_object_store_is_shown_without_options_and_its_secrets_go_nowhere(store):
    folder = Folder.open(store.uri("bucket/a")) / "b"
    assert str(folder) == "s3://bucket/a/b"
    assert b"a-secret" not in pickle.dumps(folder)


def test_an_object_is_put_under_its_own_name_and_no_other(store):
    before = set(store.objects())
    Folder.open(store.uri("bucket/own")).write("deep/x", b"1")
    assert set(store.objects()) - before == {"own/deep/x"}


@pytest.mark.parametrize(
    "location",
    ["s3://key:secret@bucket/x", "gs://key@bucket/x", "s3://key:sec%2Fret@bucket", "s3://key:sec/ret@bucket/x"],
)
def test_a_uri_with_credentials_is_refused_without_showing_them(location):
    with pytest.raises(UserError, match="holds credentials") as raised:
        Folder.open(location)
    assert "key" not in str(raised.value).replace("_KEY", "").replace("keys", "")
    assert "sec" not in str(raised.value).replace("SECRET", "")


@pytest.mark.parametrize("location", ["~nobody-of-that-name/x", "a\0b", "s3://", "s3:///x"])
def test_a_location_that_is_none_is_refused_in_one_line(location):
    with pytest.raises(UserError, match="cannot open"):
        Folder.open(location)


def test_why_an_object_store_refuses_is_said_in_one_line(store, monkeypatch):
    def refusal(folder):
        with pytest.raises(UserError) as raised, storage_errors(folder):
            folder.write("x", b"1")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert refusal(Folder.open(store.uri("nowhere/x"))).startswith(
        "storage: s3://nowhere/x cannot be used: there is no such bucket"
    )
    for name, value in store.make_user_without_rights().items():
        monkeypatch.setenv(name, value)
    with enable_iam_authentication():
        assert "access is denied; set AWS_ACCESS_KEY_ID" in refusal(Folder.open(store.uri("bucket/x")))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        assert "the secret key does not match" in refusal(Folder.open(store.uri("bucket/x")))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        assert "the access key is unknown" in refusal(Folder.open(store.uri("bucket/x")))
    silent = "s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    assert "it does not answer; check the endpoint" in refusal(Folder.open(silent))


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
