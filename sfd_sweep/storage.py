"""Folders that a sweep writes to, on a local disk or an object store, through pyarrow.

A file is complete or absent: on a local disk it is written under a temporary name and renamed, on an object store a
put is atomic by itself. A folder of several files is complete once the file that its writer puts last is there.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from sfd_sweep.errors import UserError


@dataclass(frozen=True)
class Folder:
    """A folder in a file system. It need not exist until something is written into it."""

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> "Folder":
        """The folder at a local path or a URI (`file://`, `s3://`, `gs://`).

        Raises:
            UserError: the URI is of no kind that pyarrow knows.
        """
        location = os.fspath(location)
        if "://" not in location:
            location = Path(location).expanduser().resolve().as_uri()
        try:
            filesystem, path = fs.FileSystem.from_uri(location)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot open {location!r}: {error}. Use a path, file://, s3:// or gs://.") from error
        return cls(filesystem, path)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a mounted disk."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def has(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self.filesystem.get_file_info((self / name).path).type != fs.FileType.NotFound)

    def modified(self, name: str) -> int | None:
        """When a file was written last, in nanoseconds since 1970; None if it is not there."""
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
        target = (self / name).path
        self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        written = f"{target}.{uuid.uuid4().hex}.part" if self.is_local else target
        try:
            with self.filesystem.open_output_stream(written) as stream:
                stream.write(content)
            if written != target:
                self.filesystem.move(written, target)
        except OSError:
            if self.is_local:
                Path(written).unlink(missing_ok=True)
            raise

    def upload(self, source: Path) -> None:
        """Copy a local folder's files, those of subfolders included, into this one."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self.write(path.relative_to(source).as_posix(), path.read_bytes())

    def download(self, target: Path) -> None:
        """Copy this folder's files, those of subfolders included, into a local one."""
        for name in self.files():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(name))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.has(name):
            self.filesystem.delete_file((self / name).path)

    def delete(self) -> None:
        """Remove the folder and everything in it, if it is there; a file too."""
        found = self.filesystem.get_file_info(self.path).type
        if found == fs.FileType.File:
            self.filesystem.delete_file(self.path)
        elif found != fs.FileType.NotFound:
            self.filesystem.delete_dir(self.path)
