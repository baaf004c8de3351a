import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from stand_in_inception import write_stand_in

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.inception_weights import WEIGHTS, describe_weights, find_weights


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_stand_in(tmp_path / "weights", monkeypatch)


def test_the_weights_are_found_as_file_and_as_folder(weights: Path) -> None:
    assert find_weights(str(weights)) == find_weights(str(weights / WEIGHTS)) == weights


@pytest.fixture
def mirror(weights: Path) -> Iterator[str]:
    """The URL of a server that holds the weights."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(weights)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_weights_are_fetched_once_from_a_mirror(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = find_weights(f"{mirror}/{WEIGHTS}")
    assert folder == tmp_path / "cache" / "sfd-sweep"
    assert [path.name for path in folder.iterdir()] == [WEIGHTS]
    assert find_weights("http://127.0.0.1:1/nowhere") == find_weights(None) == folder


@pytest.mark.parametrize("name", ["missing.pt", "other.txt"])
def test_what_cannot_be_fetched_or_is_another_file_leaves_nothing(
    mirror: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (weights / "other.txt").write_text("no network")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="weights could not be fetched|not the file that FID is defined on"):
        find_weights(f"{mirror}/{name}")
    assert list((tmp_path / "cache" / "sfd-sweep").iterdir()) == []


def test_an_unreachable_server_is_named_with_the_place_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=f"put {WEIGHTS} into {tmp_path}/cache/sfd-sweep"):
        find_weights("http://127.0.0.1:1/weights")


def test_another_file_under_the_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"something else")
    with pytest.raises(UserError, match="not the file that FID is defined on"):
        find_weights(str(tmp_path))
    with pytest.raises(UserError, match=f"there is no {WEIGHTS} at"):
        find_weights(str(tmp_path / "nowhere"))


def test_a_plan_says_where_the_weights_are_or_will_come_from(
    weights: Path, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert describe_weights(str(weights)) == str(weights / WEIGHTS)
    url, here = f"{mirror}/{WEIGHTS}", tmp_path / "cache" / "sfd-sweep" / WEIGHTS
    assert describe_weights(url) == f"to be fetched once from {url} to {here}"
    find_weights(url)
    assert describe_weights(url) == describe_weights(None) == str(here)
    with pytest.raises(UserError, match="there is no"):
        describe_weights(str(tmp_path / "nowhere"))
