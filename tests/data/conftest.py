"""A small data set of one's own, a server of mirrors on this machine, and a place where nothing is found."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from minigrad.data.catalog import DataFile, Source
from minigrad.data.idx import idx_md5, write_idx
from tests.strict.fixtures import device  # noqa: F401

RNG = np.random.default_rng(7)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8),
    "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
}
TINY = Source(
    name="tiny",
    title="Tiny",
    folders=("tiny", "Tiny/raw", ""),
    mirrors=("https://mirror.invalid/",),
    files=tuple(DataFile(name, idx_md5(array), array.shape) for name, array in ARRAYS.items()),
    classes=tuple("0123456789"),
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No MINIGRAD_DATA, and an empty cache that is not the user's."""
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tiny() -> Source:
    return TINY


@pytest.fixture
def tiny_folder(tmp_path):
    """A folder with the four files of the tiny data set in its first layout, compressed."""
    folder = tmp_path / "data"
    (folder / "tiny").mkdir(parents=True)
    for name, array in ARRAYS.items():
        write_idx(folder / "tiny" / f"{name}.gz", array)
    return folder


class Mirror:
    """A web server: `pages` maps paths to what is served there, an int is a status without content."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | int] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_short = False  # promise more bytes than are sent
        self.gate = threading.Event()  # requests wait until it is set
        self.gate.set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(send=False)

            def do_GET(self) -> None:
                self.answer(send=True)

            def answer(self, send: bool) -> None:
                mirror.requests.append((self.command, self.path))
                mirror.gate.wait(20)
                page = mirror.pages.get(self.path, 404)
                if isinstance(page, int):
                    self.send_response(page)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(page) + 1000 * mirror.cut_short))
                self.end_headers()
                if send:
                    self.wfile.write(page)

            def log_message(self, *args: object) -> None:
                """The base class writes a line to stderr for each request."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def serve(self, folder: str, files: dict[str, bytes | int]) -> str:
        """Serves `files` in `folder`; the address of the folder."""
        self.pages.update({f"/{folder}/{name}": content for name, content in files.items()})
        return f"{self.address}{folder}/"

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Mirror()
    yield server
    server.close()


@pytest.fixture
def tiny_files(tiny_folder) -> dict[str, bytes]:
    """File name -> content of the tiny data set as a mirror serves it."""
    return {path.name: path.read_bytes() for path in (tiny_folder / "tiny").iterdir()}
