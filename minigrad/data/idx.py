"""IDX, the file format of MNIST and Fashion-MNIST: a reader that trusts nothing, and a small writer.

An IDX file is a header and then the raw values, last axis fastest:

    bytes 0-1      zero
    byte  2        type of the values; 0x08 is unsigned byte, the only one that these data sets use
    byte  3        number of axes: 1 for labels, 3 for images (number, height, width)
    4 per axis     its length, big-endian
    the rest       the values, exactly as many as the lengths multiply to

`read_idx` looks at the bytes, not at the file's name, so a file may be plain or gzip-compressed under any
name. The header is only a claim: memory is taken as bytes really arrive, and never for more than was
claimed. Each way in which a file can be wrong is one `DataError` with the name, what was expected, what
came and what to do.

Next: `sources.py`, which says where such files come from and what their checksums are.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from minigrad.data.files import atomic_path
from minigrad.errors import ArgumentError, DataError, DtypeError, describe

__all__ = ["idx_md5", "read_idx", "write_idx"]

Stream = IO[bytes] | gzip.GzipFile
MAX_BYTES = 1 << 30  # 1 GiB: twenty times the training images of MNIST
CHUNK = 1 << 20
UNSIGNED_BYTE = 0x08
TYPES = {
    0x08: "unsigned byte",
    0x09: "signed byte",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
CUT_SHORT = "the file was cut short, most likely by a broken download or copy; fetch it again"
FETCH_AGAIN = "the file is damaged; fetch it again"
KINDS = {1: "labels (1 axis)", 3: "images (3 axes)"}

# What people have found in place of a data file, by its first bytes.
IMPOSTORS = (
    (b"<", "a web page", "the download was an error or login page; fetch the file again"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file", "run `git lfs pull`"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it and point at the files inside"),
    (b"BZh", "a bzip2 file", "unpack it with bunzip2"),
    (b"\xfd7zXZ", "an xz file", "unpack it with unxz"),
    (b"\x93NUMPY", "a NumPy .npy file", "load it with numpy.load"),
)


# 1. Reading ---


def read_idx(
    path: str | os.PathLike[str],
    ndim: int | None = None,
    *,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, plain or gzip-compressed.

    Args:
        path: the file.
        ndim: number of axes that the caller expects: 1 for labels, 3 for images; None takes any.
        name: what to call the file in errors (its address, say); default: the path.
        max_bytes: largest number of values accepted; a few compressed kilobytes can hold very many zeros.

    Raises:
        DataError: the file is missing, cut short, damaged, longer than its header says, of another type or
            kind, or larger than `max_bytes`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.gz"
    >>> write_idx(path, np.array([3, 1, 4], dtype=np.uint8))
    >>> read_idx(path)
    array([3, 1, 4], dtype=uint8)
    """
    path = Path(path)
    name = name or str(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
            file.seek(0)
            if start[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    # Deflate shrinks 1032-fold at most, so the size on disk already bounds the content.
                    return _parse(unpacked, name, ndim, max_bytes, most=1032 * size)
            if start[:2] != b"\0\0":
                _refuse_impostor(name, start, size)
            return _parse(file, name, ndim, max_bytes, most=size)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except EOFError:
        _fail(name, "the gzip stream ends too early", [("size on disk", f"{size} bytes")], CUT_SHORT)
    except (gzip.BadGzipFile, zlib.error) as error:
        _fail(name, f"corrupt gzip data ({error})", [("size on disk", f"{size} bytes")], FETCH_AGAIN)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


def _parse(stream: Stream, name: str, ndim: int | None, max_bytes: int, most: int) -> np.ndarray:
    """Header, then values. `most` is the largest content that a file of this size on disk can have."""
    magic = stream.read(4)
    if len(magic) < 4:
        rows = [("expected", "4 bytes at least"), ("found", f"{len(magic)} bytes")]
        _fail(name, "too short for an IDX header", rows, CUT_SHORT)
    zero, kind, axes = magic[:2], magic[2], magic[3]
    if zero != b"\0\0" or kind not in TYPES or axes == 0:
        rows = [("expected", "00 00 08 01 (labels) or 00 00 08 03 (images)"), ("found", magic.hex(" "))]
        _fail(name, "not an IDX file: wrong magic number", rows, "check that this is the right file")
    if kind != UNSIGNED_BYTE:
        rows = [("expected", "unsigned byte (0x08)"), ("found", f"{TYPES[kind]} (0x{kind:02x})")]
        _fail(name, "wrong type of values", rows, "pictures and labels in IDX are unsigned bytes")
    if ndim is not None and axes != ndim:
        rows = [("expected", KINDS.get(ndim, f"{ndim} axes")), ("found", KINDS.get(axes, f"{axes} axes"))]
        _fail(name, "wrong kind of file", rows, "image and label files may have been exchanged or renamed")
    lengths = stream.read(4 * axes)
    if len(lengths) < 4 * axes:
        rows = [("expected", f"{4 + 4 * axes} bytes"), ("found", f"{4 + len(lengths)} bytes")]
        _fail(name, "the IDX header is cut short", rows, CUT_SHORT)
    shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, 4 * axes, 4))
    expected = math.prod(shape)  # Python integers: no overflow, however large the claim
    room = max(most - 4 - 4 * axes, 0)
    claim = ("header claims", f"{' x '.join(map(str, shape))} = {expected} bytes")
    if expected > room:
        _fail(name, "shorter than its header says", [claim, ("room for", f"{room} bytes")], CUT_SHORT)
    if expected > max_bytes:
        hint = "pass max_bytes= if the file is meant to be so large"
        _fail(name, "too large", [claim, ("limit", f"{max_bytes} bytes")], hint)
    values = _read_at_most(stream, expected + 1)
    if len(values) < expected:
        _fail(name, "shorter than its header says", [claim, ("found", f"{len(values)} bytes")], CUT_SHORT)
    if len(values) > expected:
        _fail(name, "longer than its header says", [claim, ("found", "more")], FETCH_AGAIN)
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _read_at_most(stream: Stream, limit: int) -> bytearray:
    """Up to `limit` bytes, taking memory only as they arrive.

    Reading up to the end of a gzip stream also checks the checksum that the stream ends with.
    """
    values = bytearray()
    while len(values) < limit:
        piece = stream.read(min(CHUNK, limit - len(values)))
        if not piece:
            break
        values += piece
    return values


def _refuse_impostor(name: str, start: bytes, size: int) -> NoReturn:
    """The file starts like neither gzip nor IDX: say what it looks like instead."""
    if not start:
        _fail(name, "the file is empty", [], CUT_SHORT)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for mark, what, hint in IMPOSTORS:
        if text.startswith(mark):
            rows = [("starts with", repr(start[:24])), ("size", f"{size} bytes")]
            _fail(name, f"this is {what}", rows, hint)
    rows = [("expected", "1f 8b (gzip) or 00 00 08 (IDX)"), ("found", start[:4].hex(" "))]
    _fail(name, "neither gzip nor IDX data", rows, "check that this is the right file, or fetch it again")


def _fail(name: str, what: str, rows: list[tuple[str, str]], hint: str) -> NoReturn:
    raise DataError(describe(f"{name}: {what}", [(key, value, "") for key, value in rows], hint)) from None


# 2. Writing and checksums ---


def _header(shape: tuple[int, ...]) -> bytes:
    return bytes([0, 0, UNSIGNED_BYTE, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes an array of unsigned bytes as an IDX file, compressed if the name ends in `.gz`.

    The file appears whole or not at all, and the same array always gives the same bytes.

    Raises:
        DtypeError: the array is not uint8; values are never rounded or cut silently.
        ArgumentError: the array has no axis, or more than 255.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise DtypeError(f"write_idx: takes uint8, got {array.dtype}; convert with array.astype(numpy.uint8)")
    if not 1 <= array.ndim <= 255:
        raise ArgumentError(f"write_idx: takes 1 to 255 axes, got shape {array.shape}")
    content = _header(array.shape) + array.tobytes()
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)  # no time stamp: same array, same bytes
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def idx_md5(array: np.ndarray) -> str:
    """MD5 of the uncompressed IDX file that holds `array`.

    The header follows from the shape, so the sum can be taken after reading, without a second pass over the
    file; a file that somebody compressed again keeps its sum.

    >>> idx_md5(np.array([7], dtype=np.uint8)) == hashlib.md5(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])).hexdigest()
    True
    """
    digest = hashlib.md5(_header(array.shape), usedforsecurity=False)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
