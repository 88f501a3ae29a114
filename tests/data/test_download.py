"""Downloads, from a server on this machine: mirrors in order, checks, and nothing half-written."""

import gzip
import subprocess
import sys

import numpy as np
import pytest

from minigrad.data import download
from minigrad.data.catalog import ChecksumError
from minigrad.data.download import DataUnavailableError, download_files
from minigrad.data.idx import write_idx
from minigrad.data.sources import fetch
from minigrad.errors import ArgumentError, DataError
from tests.data.conftest import ARRAYS

FIRST = "train-images-idx3-ubyte.gz"


def gets(mirror) -> list[str]:
    return [path for method, path in mirror.requests if method == "GET"]


def leftovers(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_download_fills_the_cache(tiny, tiny_files, mirror, tmp_path):
    said: list[str] = []
    arrays, folder = fetch(tiny, tiny.files, mirrors=[mirror.serve("m", tiny_files)], say=said.append)
    for array, expected in zip(arrays, ARRAYS.values(), strict=True):
        assert (array == expected).all()
    assert folder == tmp_path / "cache" / "tiny"
    assert leftovers(folder) == sorted(tiny_files)
    assert len(said) == 1
    assert "Downloading Tiny" in said[0]
    asked = len(mirror.requests)
    fetch(tiny, tiny.files, mirrors=[mirror.address + "m"], say=said.append)  # now from the cache
    assert len(mirror.requests) == asked
    assert len(said) == 1


def test_say_is_on_stdout_by_default_and_stderr_stays_empty(tiny, tiny_files, mirror, capfd):
    fetch(tiny, tiny.files, mirrors=[mirror.serve("m", tiny_files)])
    out, err = capfd.readouterr()
    assert "Downloading Tiny" in out
    assert err == ""


def test_mirrors_are_tried_in_order(tiny, tiny_files, mirror):
    empty, partial, good = (mirror.serve(name, {}) for name in ("empty", "partial", "good"))
    mirror.serve("partial", {FIRST: tiny_files[FIRST], "train-labels-idx1-ubyte.gz": 503})
    mirror.serve("good", tiny_files)
    fetch(tiny, tiny.split(train=True), mirrors=[empty, partial, good], say=None)
    labels = "train-labels-idx1-ubyte.gz"
    assert gets(mirror) == [f"/partial/{FIRST}", f"/partial/{labels}", f"/good/{labels}"]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("web page", "this is a web page"),
        ("cut", "the gzip stream ends too early"),
        ("noise", "neither gzip nor IDX"),
        ("labels", "wrong kind of file"),
    ],
)
def test_damaged_files_are_not_kept(tiny, tiny_files, mirror, tmp_path, what, reason):
    labels = tiny_files["train-labels-idx1-ubyte.gz"]
    content = {
        "web page": b"<html>blocked</html>",
        "cut": tiny_files[FIRST][:-20],
        "noise": b"\1" * 99,
        "labels": labels,
    }[what]
    bad = mirror.serve("bad", {**tiny_files, FIRST: content})
    with pytest.raises(DataUnavailableError, match=reason):
        fetch(tiny, tiny.files, mirrors=[bad], say=None)
    assert leftovers(tmp_path / "cache") == []
    fetch(tiny, tiny.files, mirrors=[bad, mirror.serve("good", tiny_files)], say=None)
    assert leftovers(tmp_path / "cache") == sorted(tiny_files)


def test_a_wrong_file_is_another_kind_of_error(tiny, tiny_files, mirror, tmp_path):
    """Well-formed but not the published one: nobody may go on with other data after that."""
    write_idx(tmp_path / "other.gz", np.zeros((20, 28, 28), dtype=np.uint8))
    bad = mirror.serve("bad", {**tiny_files, FIRST: (tmp_path / "other.gz").read_bytes()})
    with pytest.raises(ChecksumError, match="wrong MD5") as caught:
        fetch(tiny, tiny.files, mirrors=[bad], say=None)
    assert tiny.files[0].md5 in str(caught.value)
    assert bad in str(caught.value)
    assert leftovers(tmp_path / "cache") == []
    fetch(tiny, tiny.files, mirrors=[bad, mirror.serve("good", tiny_files)], say=None)


def test_a_file_compressed_again_is_still_right(tiny, tiny_files, mirror, tmp_path):
    again = {name: gzip.compress(gzip.decompress(content), 1) for name, content in tiny_files.items()}
    plain = {name: gzip.decompress(content) for name, content in tiny_files.items()}  # unpacked on the way
    for files in (again, plain):
        assert files[FIRST] != tiny_files[FIRST]
        address = mirror.serve("m", files)
        arrays = download_files(tiny, tiny.files[:1], tmp_path / "to", mirrors=[address], say=None)
        assert (arrays[tiny.files[0]] == ARRAYS[tiny.files[0].name]).all()


def test_a_transfer_that_breaks_off(tiny, tiny_files, mirror, tmp_path):
    mirror.cut_short = True
    with pytest.raises(DataUnavailableError, match="no mirror delivered train-images") as caught:
        fetch(tiny, tiny.files, mirrors=[mirror.serve("m", tiny_files)], say=None)
    assert "broke off" in str(caught.value)
    assert leftovers(tmp_path / "cache") == []


def test_an_endless_file_is_cut_off(tiny, tiny_files, mirror, tmp_path):
    huge = mirror.serve("m", {FIRST: bytes(3 << 20)})
    with pytest.raises(DataUnavailableError, match="sends more than"):
        fetch(tiny, tiny.files, mirrors=[huge], say=None)
    assert leftovers(tmp_path / "cache") == []


def test_the_error_lists_every_mirror_and_the_manual_step(tiny, mirror, tmp_path):
    nobody = "http://127.0.0.1:9/"  # the discard port: connection refused
    server_error = mirror.serve("broken", {FIRST: 500})
    with pytest.raises(DataUnavailableError) as caught:
        fetch(tiny, tiny.files, mirrors=[nobody, mirror.address + "empty", server_error], say=None)
    lines = str(caught.value).splitlines()
    assert lines[0] == "Tiny: no mirror delivered train-images-idx3-ubyte"
    assert lines[1].split(maxsplit=1) == [nobody, "cannot be reached"]
    assert lines[2].split(maxsplit=1) == [mirror.address + "empty/", f"does not have {FIRST}"]
    assert lines[3].split(maxsplit=1) == [server_error, f"does not have {FIRST}"]
    assert str(tmp_path / "cache" / "tiny") in lines[4]
    assert "MINIGRAD_DATA" in lines[4]
    assert not (tmp_path / "cache").exists()


def test_silent_mirrors_cost_no_more_than_the_common_deadline(tiny, mirror, monkeypatch):
    """Each would hold its question for 20 s."""
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    mirror.gate.clear()
    with pytest.raises(DataUnavailableError, match=r"no answer within 0\.2 s"):
        fetch(tiny, tiny.files, mirrors=[mirror.address + str(i) for i in range(4)], say=None)
    assert gets(mirror) == []


@pytest.mark.parametrize("address", ["http://example.org/", "ftp://127.0.0.1/", "file:///tmp/", "mirror.org"])
def test_only_https(tiny, tmp_path, address):
    with pytest.raises(ArgumentError, match="must start with https://"):
        download_files(tiny, tiny.files, tmp_path, mirrors=[address])


def test_unwritable_cache(tiny, tiny_files, mirror, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot write to[\s\S]*MINIGRAD_CACHE") as caught:
        fetch(tiny, tiny.files, mirrors=[mirror.serve("m", tiny_files)], say=None)
    assert not isinstance(caught.value, DataUnavailableError)


def test_missing_pooch_is_a_reason_and_not_a_crash(tiny, mirror, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataUnavailableError, match="pip install pooch"):
        fetch(tiny, tiny.files, mirrors=[mirror.address], say=None)


def test_pooch_is_loaded_only_for_a_download():
    code = "import sys, minigrad.data; print(sorted({'pooch', 'requests'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
