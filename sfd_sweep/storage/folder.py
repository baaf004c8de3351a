"""Folders that a sweep writes to, on a local disk or an object store, through pyarrow.

A file is complete or absent: on a local disk it is written under a temporary name, flushed and renamed, on an object
store a put is atomic by itself. A folder of several files is complete once the file that its writer puts last is there.
Requests that an object store does not answer are tried again by pyarrow, for some seconds.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from pyarrow import fs

from sfd_sweep.errors import UserError
from sfd_sweep.storage.credentials import without_credentials

SCHEMES = {"s3": "s3", "gcs": "gs"}
"""How URIs call pyarrow's kinds of object stores."""

CHUNK = 16 * 2**20  # bytes of a file that are in memory at a time while it is copied

REFUSALS = {
    "NO_SUCH_BUCKET": "there is no such bucket; make it, or name another",
    "NETWORK_CONNECTION": "it does not answer; check the endpoint (endpoint_override, or AWS_ENDPOINT_URL) and the "
    "network",
    "INVALID_ACCESS_KEY_ID": "it does not know the access key; check AWS_ACCESS_KEY_ID, the profile or the role",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key does not fit the access key; check AWS_SECRET_ACCESS_KEY",
    "ACCESS_DENIED": "it denies access; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role that may "
    "list, read, write and delete there",
}
"""What a user can do about S3's errors, by the words that pyarrow has for them."""


@dataclass(frozen=True)
class Folder:
    """A folder in a file system. It need not exist until something is written into it.

    Attributes:
        path: in the file system; on an object store it begins with the bucket.
        options: the query of the URI by which it was opened, such as an endpoint.
    """

    filesystem: fs.FileSystem
    path: str
    options: str = ""

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> "Folder":
        """The folder at a local path or a URI (`file://`, `s3://`, `gs://`).

        Options such as `?endpoint_override=localhost:9000&scheme=http` are pyarrow's. Credentials come from the
        environment, a profile or the machine's role.

        Raises:
            UserError: the URI is of no kind that pyarrow knows, or holds credentials; or its store is away.
        """
        location = os.fspath(location)
        check_location(location)
        options = urlsplit(location).query
        try:
            if "://" not in location:
                location = Path(location).expanduser().resolve().as_uri()
            filesystem, path = fs.FileSystem.from_uri(_with_single_puts(location))
        except (OSError, ValueError, RuntimeError) as error:  # the last of these for the home of a user unknown
            raise UserError(
                f"cannot open {location!r}: {why_refused(error).rstrip('.')}. Use a path, file://, s3:// or gs://."
            ) from error
        if not path:
            raise UserError(f"cannot open {location!r}: it names no bucket")
        return cls(filesystem, path, options)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, f"{self.path.rstrip('/')}/{name}", self.options)

    def __str__(self) -> str:
        """A path on a local disk, else a URI without options."""
        return self.path if self.is_local else f"{SCHEMES[self.filesystem.type_name]}://{self.path}"

    @property
    def uri(self) -> str:
        """The URI that `open` opens the folder by."""
        if self.is_local:
            return Path(self.path).as_uri()
        return f"{self}?{self.options}" if self.options else str(self)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Folder":
        """The folder around this one."""
        return Folder(self.filesystem, self.path.rstrip("/").rpartition("/")[0], self.options)

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a mounted disk."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def has(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self.filesystem.get_file_info((self / name).path).type != fs.FileType.NotFound)

    def modified(self, name: str) -> int | None:
        """When a file was written last, in nanoseconds since 1970; None if it is not there.

        On an object store that is by the store's own clock.
        """
        time: int | None = self.filesystem.get_file_info((self / name).path).mtime_ns
        return time

    def names(self) -> list[str]:
        """The names in the folder, sorted; none if it does not exist."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def files(self) -> list[str]:
        """The paths of all files in the folder and its subfolders, relative to it, sorted; none if it does not exist.

        On an object store that is a request for each 1,000 files, however many subfolders they are in.
        """
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        above = len(self.path.rstrip("/")) + 1
        found = self.filesystem.get_file_info(selector)
        return sorted(info.path[above:] for info in found if info.type == fs.FileType.File)

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self.filesystem.open_input_file((self / name).path) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, in place of any of that name, and create the folders above it."""
        with self._written_whole(name) as stream:
            stream.write(content)

    @contextmanager
    def written_at(self, name: str) -> Iterator[Path]:
        """A local path to write a large file at; it is in the folder, whole, when the block ends well.

        On a local disk that is in the folder itself, under a temporary name, so that nothing is copied.
        """
        if self.is_local:
            with self._taking_its_name(name) as written:
                written.touch()
                mode = written.stat().st_mode
                yield written
                written.chmod(mode)  # safetensors makes files that their owner alone may read
            return
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch) / "file"
            yield written
            with written.open("rb") as content, self._written_whole(name) as stream:
                shutil.copyfileobj(content, stream, CHUNK)

    @contextmanager
    def read_at(self, name: str) -> Iterator[Path]:
        """A local path to read a large file at while the block lasts: its own on a local disk, otherwise a copy's.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if self.is_local:
            yield Path((self / name).path).resolve(strict=True)
            return
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "file"
            self._copy_out(name, copy)
            yield copy

    def upload(self, source: Path) -> None:
        """Copy a local folder's files, those of subfolders included, into this one."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                with path.open("rb") as content, self._written_whole(path.relative_to(source).as_posix()) as stream:
                    shutil.copyfileobj(content, stream, CHUNK)

    def download(self, target: Path) -> None:
        """Copy this folder's files, those of subfolders included, into a local one."""
        for name in self.files():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._copy_out(name, path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file((self / name).path)

    def delete(self) -> None:
        """Remove the folder and everything in it, if it is there; a file too."""
        found = self.filesystem.get_file_info(self.path).type
        if found == fs.FileType.File:
            self.filesystem.delete_file(self.path)
        elif found != fs.FileType.NotFound:
            self.filesystem.delete_dir(self.path)

    def _copy_out(self, name: str, path: Path) -> None:
        with self.filesystem.open_input_stream((self / name).path) as stream, path.open("wb") as copy:
            shutil.copyfileobj(stream, copy, CHUNK)

    @contextmanager
    def _written_whole(self, name: str) -> Iterator[IO[bytes]]:
        """A stream into a file that takes its name when the block ends well."""
        if self.is_local:
            with self._taking_its_name(name) as written, written.open("wb") as stream:
                yield stream
            return
        with self.filesystem.open_output_stream((self / name).path) as stream:  # needs no folders, and a put is whole
            yield stream

    @contextmanager
    def _taking_its_name(self, name: str) -> Iterator[Path]:
        """A path on a local disk where a file is written, which takes its name when the block ends well."""
        target = (self / name).path
        self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        written = Path(f"{target}.{uuid.uuid4().hex}.part")
        try:
            yield written
            with written.open("rb") as stream:
                os.fsync(stream.fileno())
            self.filesystem.move(str(written), target)
        finally:
            written.unlink(missing_ok=True)


def check_location(location: str) -> None:
    """Whether a path or URI may be written into files and logs.

    Raises:
        UserError: it holds credentials; the message does not.
    """
    if without_credentials(location) != location:
        scheme = location.partition("://")[0]
        raise UserError(
            f"storage: the {scheme}:// URI holds credentials, which would be kept and shown; give them by the "
            "environment instead (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), by a profile or the machine's role"
        )


def below(location: str, name: str) -> str:
    """The path or URI of a folder in another; a URI's options stay at its end."""
    if "://" not in location:
        return str(Path(location) / name)
    parts = urlsplit(location)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


@contextmanager
def reaching(folder: Folder) -> Iterator[None]:
    """A block whose first requests to a folder's file system may fail for reasons that a user can do something about.

    Raises:
        UserError: the file system is away or refuses.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"storage: {folder} cannot be used: {why_refused(error)}") from error


def why_refused(error: Exception) -> str:
    """Why a file system has refused, in one line, and what to do."""
    text = str(error)
    for word, meaning in REFUSALS.items():
        if f"AWS Error {word}" in text:
            return meaning
    return text.splitlines()[0] if text else type(error).__name__


def _with_single_puts(location: str) -> str:
    """Have S3 take a small file by one request instead of three: those of a multipart upload."""
    parts = urlsplit(location)
    if parts.scheme != "s3":
        return location
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, "allow_delayed_open=true"]))))
