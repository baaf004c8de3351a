"""Datasets and models of the hub, from a server on this machine that speaks its language."""

import json
import socket
import time
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from photographs import NAMES, photographs

from sfd_sweep import hub
from sfd_sweep.datasets.finding import find_images
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.hub import fetch, is_hub_id

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """One dataset, owner/photographs, of the files in a folder."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path == "/api/datasets/owner/photographs/revision/main":
            self._answer(json.dumps({"id": "owner/photographs", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/datasets/owner/photographs/tree/{COMMIT}":
            self._answer(json.dumps([self._entry(file) for file in self.folder.rglob("*") if file.is_file()]).encode())
        elif path.startswith(f"/datasets/owner/photographs/resolve/{COMMIT}/"):
            self._answer((self.folder / path.partition(f"{COMMIT}/")[2]).read_bytes())
        elif path == "/":
            self._answer(b"")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

    def _entry(self, file: Path) -> dict[str, object]:
        content = file.read_bytes()
        name = file.relative_to(self.folder).as_posix()
        return {"type": "file", "path": name, "size": len(content), "oid": sha1(content).hexdigest()}

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha1(content).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What a hub was asked for, which has one dataset."""
    handler = type("Hub", (_Hub,), {"folder": photographs(tmp_path / "theirs" / "data", count=12).parent, "asked": []})
    (handler.folder / "README.md").write_text("photographs")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        point_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        yield handler.asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("split", "count"), [("", 12), (":test", 6), (":all", 18)])
def test_a_dataset_of_the_hub_is_loaded_by_its_id(asked: list[str], split: str, count: int) -> None:
    loaded = load_images(f"owner/photographs{split}")
    assert loaded.pixels.shape == (count, 3, 32, 32)
    assert loaded.class_names == NAMES
    assert not [path for path in asked if "README" in path]


def test_a_dataset_that_was_fetched_once_needs_no_network(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_images("owner/photographs").describe()
    assert first.startswith("Parquet, 1 file(s), ")
    point_to("http://hub.invalid", monkeypatch)
    assert find_images("owner/photographs").describe() == first


def test_a_dataset_that_the_hub_does_not_have_is_refused(asked: list[str]) -> None:
    with pytest.raises(UserError, match="'owner/cats' is no folder here and could not be fetched from the hub") as told:
        find_images("owner/cats").describe()
    assert "\n" not in str(told.value)


def test_a_hub_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        started = time.monotonic()
        with pytest.raises(UserError, match="check the name and the network, or give a local folder"):
            load_images("owner/photographs:test")
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_hub_that_cannot_be_found_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    point_to("http://hub.invalid", monkeypatch)
    with pytest.raises(UserError, match="'owner/nothing' is no folder here") as told:
        fetch("owner/nothing", kind=kind, files=["*"])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("owner/name", True),
        ("./name", False),
        ("~/name", False),
        ("/name", False),
        ("../name", False),
        ("name", False),
        ("a/b/c", False),
    ],
)
def test_a_hub_id_is_an_owner_and_a_name(source: str, is_one: bool) -> None:
    assert is_hub_id(source) == is_one
