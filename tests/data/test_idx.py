"""The IDX reader against files that are right, and against every way in which one can be wrong."""

import gzip
import hashlib
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data.files import atomic_path
from minigrad.data.idx import idx_md5, read_idx, write_idx
from minigrad.errors import ArgumentError, DataError, DtypeError

LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])


def images(shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


@pytest.fixture
def write(tmp_path):
    def write_(content: bytes, name: str = "file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_


arrays = st.lists(st.integers(0, 5), min_size=1, max_size=4).flatmap(
    lambda shape: st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
        lambda content: np.frombuffer(content, np.uint8).reshape(shape)
    )
)


# 1. Right files ---


def test_layout_of_the_format(write):
    """Written by hand from the description of the format, not by write_idx."""
    assert read_idx(write(LABELS)).tolist() == [7, 8, 9]
    content = images((2, 2, 3), bytes(range(12)))
    array = read_idx(write(content), ndim=3)
    assert array.shape == (2, 2, 3)
    assert array.dtype == np.uint8
    assert array[1, 0].tolist() == [6, 7, 8]


@given(array=arrays, name=st.sampled_from(["plain", "packed.gz"]))
def test_round_trip(tmp_path_factory, array, name):
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, array)
    again = read_idx(path, ndim=array.ndim)
    assert again.shape == array.shape
    assert again.dtype == np.uint8
    assert (again == array).all()
    content = path.read_bytes()
    assert (content[:2] == b"\x1f\x8b") == name.endswith(".gz")
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    assert idx_md5(array) == hashlib.md5(plain).hexdigest()


def test_content_counts_and_not_the_name(write):
    assert read_idx(write(gzip.compress(LABELS), "no-suffix")).tolist() == [7, 8, 9]
    assert read_idx(write(LABELS, "unpacked-in-transfer.gz")).tolist() == [7, 8, 9]


def test_several_gzip_members_are_one_stream(write):
    assert read_idx(write(gzip.compress(LABELS[:6]) + gzip.compress(LABELS[6:]))).tolist() == [7, 8, 9]


def test_non_contiguous_arrays_are_written_in_their_own_order(tmp_path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    write_idx(tmp_path / "a", array)
    assert read_idx(tmp_path / "a").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert idx_md5(array) == idx_md5(np.ascontiguousarray(array))


def test_same_array_same_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(50, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


# 2. Wrong files: one DataError each, that names the file and what to do ---

WRONG = {
    "empty": (b"", "the file is empty"),
    "three bytes": (b"\0\0\x08", "too short for an IDX header"),
    "header cut": (LABELS[:6], "the IDX header is cut short"),
    "no axes": (bytes([0, 0, 8, 0]), "wrong magic number"),
    "unknown type": (bytes([0, 0, 7, 1]) + LABELS[4:], "wrong magic number"),
    "float32": (bytes([0, 0, 13, 1]) + LABELS[4:], r"float32 \(0x0d\)"),
    "one byte missing": (LABELS[:-1], "shorter than its header says"),
    "one byte more": (LABELS + b"\n", "longer than its header says"),
    "huge claim": (images((2**32 - 1,) * 3, b"abc"), "shorter than its header says"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "this is a web page"),
    "web page with mark and space": (b"\xef\xbb\xbf\n  <html>", "this is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    "zip": (b"PK\x03\x04rest", "ZIP archive"),
    "npy": (b"\x93NUMPY\x01\x00rest", "npy file"),
    "noise": (b"\x89PNG\r\n", "neither gzip nor IDX data"),
    "little-endian": (bytes([1, 8, 0, 0, 3, 0, 0, 0, 7, 8, 9]), "neither gzip nor IDX data"),
    "gzip of a web page": (gzip.compress(b"<html></html>"), "wrong magic number"),
    "gzip of nothing": (gzip.compress(b""), "too short for an IDX header"),
    "gzip cut": (gzip.compress(LABELS)[:-9], "the gzip stream ends too early"),
    "gzip without its checksum": (gzip.compress(LABELS)[:-8], "the gzip stream ends too early"),
    "gzip start only": (b"\x1f\x8b", "the gzip stream ends too early"),
    "gzip with noise after it": (gzip.compress(LABELS) + b"noise", "corrupt gzip data"),
    "gzip, one byte more": (gzip.compress(LABELS + b"\n"), "longer than its header says"),
    "gzip, one byte missing": (gzip.compress(LABELS[:-1]), "shorter than its header says"),
    "gzip, huge claim": (gzip.compress(images((2**31, 28, 28), b"abc")), "shorter than its header says"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(write, case):
    content, message = WRONG[case]
    path = write(content, "some-file")
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "hint:" in text
    assert caught.value.__suppress_context__  # one error, not a chain of them


def test_wrong_kind_names_both(write):
    with pytest.raises(DataError, match="wrong kind of file") as caught:
        read_idx(write(LABELS), ndim=3)
    assert "expected  images (3 axes)" in str(caught.value)
    assert "found     labels (1 axis)" in str(caught.value)
    with pytest.raises(DataError, match="wrong kind of file"):
        read_idx(write(images((1, 1, 1), b"x")), ndim=1)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user who can be refused")
def test_unreadable_file(write):
    path = write(LABELS)
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_idx(path)


def test_name_replaces_the_path_in_errors(write):
    with pytest.raises(DataError, match=r"^https://example\.org/x: the file is empty"):
        read_idx(write(b""), name="https://example.org/x")


def test_corrupt_gzip_data(write):
    content = bytearray(gzip.compress(images((30, 28, 28), os.urandom(30 * 28 * 28))))
    content[2000] ^= 0xFF
    with pytest.raises(DataError, match="corrupt gzip data"):
        read_idx(write(bytes(content)))


@given(data=st.data())
def test_no_damage_changes_values(tmp_path_factory, data):
    """A cut is always an error; a changed byte is one, or it is padding and the values are the same."""
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path_factory.mktemp("idx") / "file.gz"
    write_idx(path, array)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:at])
    with pytest.raises(DataError, match=str(path)):
        read_idx(path, ndim=3)
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_idx(path, ndim=3)
    except DataError:
        return
    assert (found == array).all()


# 3. Memory ---


def peak_of(function) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_idx(path, **options)
    return str(caught.value)


def test_a_claim_allocates_nothing(write):
    """A compressed file long enough that its size on disk does not already refute the claim."""
    path = write(gzip.compress(images((1 << 28,), bytes(1 << 18)) + os.urandom(1 << 19)))
    assert peak_of(lambda: refused(path)) < 8 << 20
    assert "shorter than its header says" in refused(path)


def test_a_bomb_is_not_unpacked(write):
    """Many zeros behind a small claim: reading stops one byte after what was claimed."""
    path = write(gzip.compress(images((10,), bytes(32 << 20)), compresslevel=1))
    assert peak_of(lambda: refused(path)) < 8 << 20
    assert "longer than its header says" in refused(path)


def test_limit(write):
    path = write(gzip.compress(images((4 << 20,), bytes(4 << 20)), compresslevel=1))
    assert "too large" in refused(path, max_bytes=(4 << 20) - 1)
    assert peak_of(lambda: refused(path, max_bytes=1 << 20)) < 1 << 20
    assert read_idx(path, max_bytes=4 << 20).shape == (4 << 20,)


# 4. Writing ---


def test_write_refuses_other_dtypes_and_shapes(tmp_path):
    with pytest.raises(DtypeError, match="takes uint8, got int64"):
        write_idx(tmp_path / "a", np.array([1, 2]))
    with pytest.raises(ArgumentError, match="1 to 255 axes"):
        write_idx(tmp_path / "a", np.uint8(3))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "labels"
    write_idx(path, np.array([1], dtype=np.uint8))

    def full_disk(self, content):
        with open(self, "wb") as file:
            file.write(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_idx(path, np.array([2, 3], dtype=np.uint8))
    assert list(tmp_path.iterdir()) == [path]
    assert read_idx(path).tolist() == [1]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_bytes(b"half")
            assert temporary.parent == tmp_path
            assert not (tmp_path / "file").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
