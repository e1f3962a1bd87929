"""Downloads of data files, from a server of this test: tried again, checked, and never left half done."""

from __future__ import annotations

import builtins
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.tasks.data import locate
from dse.tasks.data.sources import SOURCES, DataFile, DataSource


class Server(ThreadingHTTPServer):
    """Answers each request with the next of ``answers``: (status, body, length that it claims)."""

    answers: list[tuple[int, bytes, int]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        status, body, length = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """Serves the one file of the source 'fake', whose right content is b'right'; between tries nobody waits."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    with Server(("127.0.0.1", 0), Handler) as found:
        url = f"http://127.0.0.1:{found.server_port}/a.bin"
        file = DataFile("a.bin", url, hashlib.sha256(b"right").hexdigest(), 5)
        monkeypatch.setitem(SOURCES, "fake", DataSource("fake", "image", "a fake", "none", (file,), folder="sub"))
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "failures",
    [[], [(503, b"busy", 4)], [(200, b"wrong", 5)], [(200, b"rig", 5), (200, b"", 5)]],
    ids=["at once", "busy", "damaged", "cut short twice"],
)
def test_a_download_is_tried_again_checked_and_kept(
    server: Server, tmp_path: Path, failures: list[tuple[int, bytes, int]]
) -> None:
    server.answers = [*failures, (200, b"right", 5)]
    path = tmp_path / "cache" / "dse" / "sub" / "a.bin"
    assert locate.files("fake") == (path,)
    assert path.read_bytes() == b"right"
    assert server.answers == []
    assert locate.files("fake") == (path,)  # without a request
    assert list(path.parent.iterdir()) == [path]


def test_what_is_wrong_every_time_is_an_error_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.answers = [(200, b"wrong", 5)] * 3
    with pytest.raises(UserError, match=r"/a\.bin: checksum differs from the published sha256 .* 3 tries") as error:
        locate.files("fake")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache" / "dse" / "sub").iterdir()) == []


def test_a_file_that_is_not_there_is_named_with_where_it_was_looked_for(server: Server) -> None:
    server.answers = [(404, b"", 0)] * 3
    with pytest.raises(UserError, match=r"fake: a\.bin is missing: .* could not be downloaded \(404 Client Error"):
        locate.files("fake")


def test_the_extra_is_named_where_pooch_is_missing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pooch(name: str, *rest: Any, **named: Any) -> Any:
        if name == "pooch":
            raise ModuleNotFoundError("No module named 'pooch'", name="pooch")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_pooch)
    with pytest.raises(UserError, match=r"needs pooch, which is not installed; run: pip install 'fp4-dse\[data\]'"):
        locate.files("fake")
