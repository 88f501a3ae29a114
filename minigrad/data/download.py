"""Downloading data files: several mirrors, bounded in time and size, and a file is kept only if it is right.

All mirrors are asked at once whether they have the first file, and those that do not answer within a few
seconds are left out: without a network, the answer "not to be had" comes in seconds. A file is written to a
temporary name, checked, and only then renamed; the next mirror is tried if anything is wrong with it. If no
mirror works, the error lists them all with their reasons, and says what to do by hand.

The transfer itself is done by pooch, which is imported only here, and only when something is fetched.

Next: `sources.py`, which calls `download_files` for what it has not found on the disk.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from minigrad.data.catalog import ChecksumError, DataFile, Source, read_checked
from minigrad.data.files import atomic_path
from minigrad.errors import ArgumentError, DataError, describe

__all__ = ["DataUnavailableError", "download_files"]

PATIENCE = 5.0  # seconds for all mirrors together to say that they are there
TIMEOUT = (5.0, 20.0)  # seconds to connect, and between two pieces of a file


class DataUnavailableError(DataError):
    """A data set that is neither on this machine nor to be had over the network."""


class UnwritableError(DataError):
    """The folder for downloads cannot be written."""


def download_files(
    source: Source,
    files: Sequence[DataFile],
    folder: Path,
    *,
    mirrors: Sequence[str] | None = None,
    say: Callable[[str], None] | None = print,
) -> dict[DataFile, np.ndarray]:
    """Fetches `files` of `source` into `folder`; their arrays.

    Args:
        mirrors: addresses of folders to use in place of the source's own. They must be https; plain http is
            accepted for this machine only (127.0.0.1), for tests.
        say: called with one line before the transfer begins; None for silence.

    Raises:
        DataUnavailableError: no mirror could deliver a file.
        ChecksumError: no mirror delivered the right file, and at least one a well-formed wrong one.
        DataError: the folder cannot be written.
    """
    addresses = [_checked_address(mirror) for mirror in (source.mirrors if mirrors is None else mirrors)]
    answers = _ask_all(addresses, f"{files[0].name}.gz")
    answering = [address for address in addresses if answers[address] == ""]
    if answering and say is not None:
        say(f"Downloading {source.title} to {folder}: {', '.join(file.name for file in files)}")
    arrays = {}
    for file in files:
        failures: list[tuple[str, str]] = [(address, why) for address, why in answers.items() if why]
        wrong_file = False
        for address in answering:
            try:
                arrays[file] = _download_one(f"{address}{file.name}.gz", file, source, folder)
                break
            except UnwritableError:
                raise  # another mirror would not help
            except DataError as error:
                wrong_file = wrong_file or isinstance(error, ChecksumError)
                failures.append((address, "; ".join(line.strip() for line in str(error).splitlines())))
        else:
            raise _failure(source, file, folder, failures, wrong_file)
    return arrays


def _checked_address(mirror: str) -> str:
    parts = urlsplit(mirror)
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    if not (parts.scheme == "https" or local):
        raise ArgumentError(f"mirror {mirror!r}: the address must start with https://")
    return mirror.rstrip("/") + "/"


def _failure(
    source: Source, file: DataFile, folder: Path, failures: list[tuple[str, str]], wrong_file: bool
) -> DataError:
    rows = [(address, why, "") for address, why in failures]
    hint = (
        f"fetch the four .gz files in a browser or on another machine and put them into {folder}, "
        "or set MINIGRAD_DATA (or data_dir) to the folder that has them"
    )
    kind = ChecksumError if wrong_file else DataUnavailableError
    return kind(describe(f"{source.title}: no mirror delivered {file.name}", rows, hint))


# 1. Which mirrors answer ---


def _ask_all(addresses: Sequence[str], name: str) -> dict[str, str]:
    """For each address "" if it has the file `name`, else why it cannot be used; within PATIENCE seconds."""
    answers = dict.fromkeys(addresses, f"no answer within {PATIENCE:g} s")

    def ask(address: str) -> None:
        try:
            has_it = _downloader()(f"{address}{name}", None, None, check_only=True)
            answers[address] = "" if has_it else f"does not have {name}"
        except Exception as error:
            answers[address] = _reason(error)

    # Threads, because a name server or a silent router can hold a question longer than its timeout.
    threads = [threading.Thread(target=ask, args=(address,), daemon=True) for address in addresses]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)  # a copy: a thread that is late must not change it any more


def _downloader() -> Callable[..., bool | None]:
    import pooch

    return pooch.HTTPDownloader(timeout=TIMEOUT, chunk_size=1 << 16)


REASONS = {
    "ConnectTimeout": "no answer in time",
    "ReadTimeout": "no answer in time",
    "ProxyError": "the proxy refused",
    "SSLError": "its certificate was not accepted",
    "ConnectionError": "cannot be reached",
    "ChunkedEncodingError": "the connection broke off",
    "ModuleNotFoundError": "needs the package pooch (pip install pooch)",
}


def _reason(error: Exception) -> str:
    """One short line for an exception of the HTTP library, whose own messages fill half a screen."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP status {status}"
    return REASONS.get(type(error).__name__, f"{type(error).__name__}: {str(error)[:80]}")


# 2. One file from one mirror ---


def _download_one(url: str, file: DataFile, source: Source, folder: Path) -> np.ndarray:
    """The array of `file`, once the file is in `folder`; on any failure nothing is left there."""
    content = _transfer(url, limit=math.prod(file.shape) + (1 << 20))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / f"{file.name}.gz") as temporary:
            temporary.write_bytes(content)
            return read_checked(temporary, file, source, name=file.name)
    except OSError as error:
        hint = "set MINIGRAD_CACHE to a folder that can be written"
        reason = error.strerror or str(error)
        title = f"{source.title}: cannot write to {folder}: {reason}"
        raise UnwritableError(describe(title, (), hint)) from error


def _transfer(url: str, limit: int) -> bytes:
    """The content of `url`, or a DataError with the reason in a few words."""
    sink = _BoundedSink(limit)
    try:
        _downloader()(url, sink, None)
    except DataError:
        raise
    except Exception as error:
        raise DataError(_reason(error)) from error
    return bytes(sink.content)


class _BoundedSink:
    """What pooch writes to: keeps the bytes, and refuses more than `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.content = bytearray()
        self.limit = limit

    def write(self, piece: bytes) -> None:
        if len(self.content) + len(piece) > self.limit:
            raise DataError(f"sends more than {self.limit} bytes")
        self.content += piece

    def flush(self) -> None:
        """pooch flushes after every piece; there is nothing to do."""
