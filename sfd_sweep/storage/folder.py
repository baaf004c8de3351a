"""Folders on a local disk or an object store, through pyarrow.

A file is complete or absent: on a local disk it is written under a temporary name, flushed and renamed; on an object
store a put is atomic. A folder of several files is complete once its writer has put the last one. pyarrow retries
requests that an object store does not answer, for some seconds.
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
from sfd_sweep.storage.errors import describe

SCHEMES = {"s3": "s3", "gcs": "gs"}
"""URI schemes by pyarrow's names of object stores."""

CHUNK = 16 * 2**20  # bytes of a file that are in memory at a time while it is copied


@dataclass(frozen=True)
class Folder:
    """A folder in a file system. It need not exist before something is written into it.

    Attributes:
        path: in the file system; on an object store it begins with the bucket.
        options: the query of the URI by which it was opened, such as an endpoint.
    """

    filesystem: fs.FileSystem
    path: str
    options: str = ""

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> "Folder":
        """Return the folder at a local path or a URI (`file://`, `s3://`, `gs://`).

        Options such as `?endpoint_override=localhost:9000&scheme=http` are pyarrow's. Credentials come from the
        environment, a profile or the machine's role.

        Raises:
            UserError: the scheme is unknown, the URI holds credentials, or the store does not answer.
        """
        location = os.fspath(location)
        check_location(location)
        options = urlsplit(location).query
        try:
            if "://" not in location:
                location = Path(location).expanduser().resolve().as_uri()
            filesystem, path = fs.FileSystem.from_uri(_with_single_puts(location))
        except (OSError, ValueError, RuntimeError) as error:  # expanduser raises the last for an unknown user
            raise UserError(
                f"cannot open {location!r}: {describe(error).rstrip('.')}. Use a path, file://, s3:// or gs://."
            ) from error
        if not path:
            raise UserError(f"cannot open {location!r}: it names no bucket")
        return cls(filesystem, path, options)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, f"{self.path.rstrip('/')}/{name}", self.options)

    def __str__(self) -> str:
        """Return the path on a local disk, else the URI without options."""
        return self.path if self.is_local else f"{SCHEMES[self.filesystem.type_name]}://{self.path}"

    @property
    def uri(self) -> str:
        """The URI that `open` accepts."""
        if self.is_local:
            return Path(self.path).as_uri()
        return f"{self}?{self.options}" if self.options else str(self)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Folder":
        """The enclosing folder."""
        return Folder(self.filesystem, self.path.rstrip("/").rpartition("/")[0], self.options)

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a mounted disk."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def has(self, name: str) -> bool:
        """Whether a file or folder of that name exists."""
        return bool(self.filesystem.get_file_info((self / name).path).type != fs.FileType.NotFound)

    def modified(self, name: str) -> int | None:
        """Return when a file was last written, in nanoseconds since 1970 by the store's clock; None without a file."""
        time: int | None = self.filesystem.get_file_info((self / name).path).mtime_ns
        return time

    def version(self, name: str) -> tuple[int, int] | None:
        """Return when a file was last written, and its size, which tells more where times are whole seconds."""
        info = self.filesystem.get_file_info((self / name).path)
        return None if info.size is None else (info.mtime_ns, info.size)

    def names(self) -> list[str]:
        """Return the sorted names in the folder; none if it does not exist."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def files(self) -> list[str]:
        """Return the sorted relative paths of all files, subfolders included; none if the folder does not exist.

        An object store is asked once per 1,000 files, however many subfolders there are.
        """
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        prefix = len(self.path.rstrip("/")) + 1
        found = self.filesystem.get_file_info(selector)
        return sorted(info.path[prefix:] for info in found if info.type == fs.FileType.File)

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self.filesystem.open_input_file((self / name).path) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file atomically, and create the folders above it."""
        with self._atomic_stream(name) as stream:
            stream.write(content)

    @contextmanager
    def written_at(self, name: str) -> Iterator[Path]:
        """Yield a local path to write a large file at; the file is in the folder when the block ends without error."""
        if self.is_local:
            with self._atomic_path(name) as path:  # in the folder itself: nothing is copied
                path.touch()
                mode = path.stat().st_mode
                yield path
                path.chmod(mode)  # safetensors makes files that their owner alone may read
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "file"
            yield path
            self._copy_in(path, name)

    @contextmanager
    def read_at(self, name: str) -> Iterator[Path]:
        """Yield a local path to read a large file at: its own on a local disk, else that of a temporary copy.

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
        """Copy a local folder's files, subfolders included, into this one."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self._copy_in(path, path.relative_to(source).as_posix())

    def download(self, target: Path) -> None:
        """Copy this folder's files, subfolders included, into a local one."""
        for name in self.files():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            self._copy_out(name, target / name)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file((self / name).path)

    def delete(self) -> None:
        """Remove the folder with its content, or the file at this path, if it exists."""
        found = self.filesystem.get_file_info(self.path).type
        if found == fs.FileType.File:
            self.filesystem.delete_file(self.path)
        elif found != fs.FileType.NotFound:
            self.filesystem.delete_dir(self.path)

    def _copy_in(self, path: Path, name: str) -> None:
        with path.open("rb") as content, self._atomic_stream(name) as stream:
            shutil.copyfileobj(content, stream, CHUNK)

    def _copy_out(self, name: str, path: Path) -> None:
        with self.filesystem.open_input_stream((self / name).path) as stream, path.open("wb") as copy:
            shutil.copyfileobj(stream, copy, CHUNK)

    @contextmanager
    def _atomic_stream(self, name: str) -> Iterator[IO[bytes]]:
        if self.is_local:
            with self._atomic_path(name) as path, path.open("wb") as stream:
                yield stream
        else:
            with self.filesystem.open_output_stream((self / name).path) as stream:
                yield stream

    @contextmanager
    def _atomic_path(self, name: str) -> Iterator[Path]:
        """Yield a temporary path on the local disk, which is renamed when the block ends without error."""
        target = (self / name).path
        self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        path = Path(f"{target}.{uuid.uuid4().hex}.part")
        try:
            yield path
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            self.filesystem.move(str(path), target)
        finally:
            path.unlink(missing_ok=True)


def check_location(location: str) -> None:
    """Refuse a path or URI that must not be written into files and logs.

    Raises:
        UserError: it holds credentials; the message does not.
    """
    if without_credentials(location) != location:
        scheme = location.partition("://")[0]
        raise UserError(
            f"storage: the {scheme}:// URI holds credentials, which would be stored and shown; pass them through the "
            "environment instead (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), a profile or the machine's role"
        )


def below(location: str, name: str) -> str:
    """Return the path or URI of a folder in another; a URI's options stay at its end."""
    if "://" not in location:
        return str(Path(location) / name)
    parts = urlsplit(location)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _with_single_puts(location: str) -> str:
    """Make S3 take a small file by one request instead of the three of a multipart upload."""
    parts = urlsplit(location)
    if parts.scheme != "s3":
        return location
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, "allow_delayed_open=true"]))))
