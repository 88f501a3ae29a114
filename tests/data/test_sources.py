"""Where files are looked for, what is checked, and what the user is told."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import catalog
from minigrad.data.catalog import FASHION_MNIST, MNIST, ChecksumError, DataFile, culprit, read_checked
from minigrad.data.download import DataUnavailableError
from minigrad.data.idx import idx_md5, read_idx, write_idx
from minigrad.data.sources import cache_dir, fetch, find_files
from minigrad.errors import DataError
from tests.data.conftest import ARRAYS

REAL = os.environ.get("MINIGRAD_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="no real data: MINIGRAD_DATA is not set")


def check(arrays: list[np.ndarray]) -> None:
    for array, expected in zip(arrays, ARRAYS.values(), strict=True):
        assert (array == expected).all()


# 1. The catalogue ---


def test_all_mirrors_are_https_and_folders():
    for source in (FASHION_MNIST, MNIST):
        assert len(source.mirrors) >= 2
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in source.mirrors)


def test_all_checksums_differ():
    sums = [file.md5 for source in (FASHION_MNIST, MNIST) for file in source.files]
    assert len(set(sums)) == 8
    assert all(len(md5) == 32 for md5 in sums)


def test_culprit():
    assert culprit("6bbc9ace898e44ae57da46a324031adb") == "MNIST train-images-idx3-ubyte"
    assert culprit("0" * 32) == ""


# 2. A named folder ---


@pytest.mark.parametrize("layout", ["tiny", "Tiny/raw", ""])
@pytest.mark.parametrize("spelling", ["{}.gz", "{}", "dot"])
def test_layouts(tiny, tmp_path, layout, spelling):
    folder = tmp_path / "data" / layout
    folder.mkdir(parents=True)
    for name, array in ARRAYS.items():
        file_name = name.replace("-idx", ".idx") if spelling == "dot" else spelling.format(name)
        write_idx(folder / file_name, array)
    arrays, found = fetch(tiny, tiny.files, tmp_path / "data", download=False)
    check(arrays)
    assert found == folder


def test_only_the_files_asked_for_are_needed(tiny, tiny_folder):
    for path in (tiny_folder / "tiny").glob("t10k*"):
        path.unlink()
    images, labels = fetch(tiny, tiny.split(train=True), tiny_folder)[0]
    assert images.shape == (20, 28, 28)
    assert labels.shape == (20,)
    with pytest.raises(DataError, match="files not found"):
        fetch(tiny, tiny.split(train=False), tiny_folder)


def test_environment_names_the_folder(tiny, tiny_folder, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tiny_folder))
    check(fetch(tiny, tiny.files, download=False)[0])


def test_argument_comes_before_environment(tiny, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "elsewhere"))
    check(fetch(tiny, tiny.files, tiny_folder)[0])


def test_home_is_expanded(tiny, tiny_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_folder.parent))
    monkeypatch.setenv("USERPROFILE", str(tiny_folder.parent))
    check(fetch(tiny, tiny.files, "~/data")[0])


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_named_folder_without_the_files_is_an_error(tiny, tiny_folder, tmp_path, monkeypatch, by):
    """Although the cache has them."""
    shutil.copytree(tiny_folder / "tiny", tmp_path / "cache" / "tiny")
    folder = tmp_path / "empty"
    folder.mkdir()
    if by == "environment":
        monkeypatch.setenv("MINIGRAD_DATA", str(folder))
    with pytest.raises(DataError, match=f"Tiny: files not found in {folder}") as caught:
        fetch(tiny, tiny.files, folder if by == "argument" else None)
    assert not isinstance(caught.value, DataUnavailableError)  # "auto" must not go on without them
    text = str(caught.value)
    assert "t10k-labels-idx1-ubyte.gz" in text
    assert str(folder / "Tiny" / "raw") in text
    assert "hint:" in text


def test_a_named_folder_that_does_not_exist(tiny, tmp_path):
    with pytest.raises(DataError, match=r"the data folder .*typo does not exist"):
        fetch(tiny, tiny.files, tmp_path / "typo")


def test_a_folder_with_some_of_the_files_is_passed_over(tiny, tiny_folder):
    shutil.copytree(tiny_folder / "tiny", tiny_folder / "Tiny" / "raw")
    (tiny_folder / "tiny" / "train-labels-idx1-ubyte.gz").unlink()
    assert find_files(tiny, tiny.files, tiny_folder)[0].parent == tiny_folder / "Tiny" / "raw"


def test_a_folder_with_the_name_of_a_file_does_not_count(tiny, tiny_folder):
    path = tiny_folder / "tiny" / "train-labels-idx1-ubyte.gz"
    path.unlink()
    path.mkdir()
    assert find_files(tiny, tiny.files, tiny_folder) == []


# 3. Checksums ---


def test_a_changed_file_names_file_and_sums(tiny, tiny_folder):
    path = tiny_folder / "tiny" / "train-labels-idx1-ubyte.gz"
    changed = ARRAYS["train-labels-idx1-ubyte"][::-1].copy()
    write_idx(path, changed)
    with pytest.raises(ChecksumError, match="wrong MD5") as caught:
        fetch(tiny, tiny.files, tiny_folder)
    text = str(caught.value)
    assert str(path) in text
    assert idx_md5(changed) in text
    assert tiny.files[1].md5 in text
    assert "no file known" in text
    assert "fetch it again" in text


@pytest.fixture
def two_sources(monkeypatch):
    """Two data sets with the same file names, known to the catalogue."""
    arrays = {name: np.full(4, fill, dtype=np.uint8) for name, fill in (("Clothes", 1), ("Digits", 2))}
    sources = {
        name: catalog.Source(name, name, ("",), (), (DataFile("x", idx_md5(array), (4,)),) * 4, ())
        for name, array in arrays.items()
    }
    monkeypatch.setattr(catalog, "SOURCES", sources)
    return sources, arrays


@pytest.mark.parametrize(("wanted", "given"), [("Clothes", "Digits"), ("Digits", "Clothes")])
def test_one_data_set_in_place_of_the_other(two_sources, tmp_path, wanted, given):
    sources, arrays = two_sources
    write_idx(tmp_path / "x.gz", arrays[given])
    with pytest.raises(ChecksumError, match=f"these are the bytes of {given} x"):
        read_checked(tmp_path / "x.gz", sources[wanted].files[0], sources[wanted])


def test_images_and_labels_exchanged(tiny, tiny_folder):
    folder = tiny_folder / "tiny"
    (folder / "train-images-idx3-ubyte.gz").replace(folder / "spare")
    (folder / "train-labels-idx1-ubyte.gz").replace(folder / "train-images-idx3-ubyte.gz")
    (folder / "spare").replace(folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=r"wrong kind of file[\s\S]*labels \(1 axis\)[\s\S]*exchanged"):
        fetch(tiny, tiny.files, tiny_folder)


# 4. The cache ---


def test_place_of_the_cache(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("MINIGRAD_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "minigrad"


def test_cache_is_used_without_a_network(tiny, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder / "tiny", tmp_path / "cache" / "tiny")
    arrays, folder = fetch(tiny, tiny.files, download=False)
    check(arrays)
    assert folder == tmp_path / "cache" / "tiny"


def test_nothing_in_the_cache_and_no_leave_to_download(tiny):
    with pytest.raises(DataUnavailableError, match=r"not in the cache[\s\S]*hint:.*MINIGRAD_DATA"):
        fetch(tiny, tiny.files, download=False)


def test_damage_in_the_cache_is_reported_if_it_cannot_be_repaired(tiny, tiny_folder, tmp_path, mirror):
    folder = tmp_path / "cache" / "tiny"
    shutil.copytree(tiny_folder / "tiny", folder)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-3])
    for options in ({"download": False}, {"mirrors": [mirror.address]}):
        with pytest.raises(DataError, match="ends too early") as caught:
            fetch(tiny, tiny.files, say=None, **options)
        assert not isinstance(caught.value, DataUnavailableError)
        assert str(path) in str(caught.value)


def test_damage_in_the_cache_is_repaired_from_the_network(tiny, tiny_folder, tiny_files, tmp_path, mirror):
    folder = tmp_path / "cache" / "tiny"
    shutil.copytree(tiny_folder / "tiny", folder)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-3])
    check(fetch(tiny, tiny.files, mirrors=[mirror.serve("m", tiny_files)], say=None)[0])
    assert [page for method, page in mirror.requests if method == "GET"] == [f"/m/{path.name}"]
    check(fetch(tiny, tiny.files, download=False)[0])


# 5. The real files ---


@needs_real_data
@pytest.mark.parametrize("source", [FASHION_MNIST, MNIST], ids=lambda source: source.name)
def test_real_files(source):
    paths = find_files(source, source.files, Path(REAL))
    if not paths:
        pytest.skip(f"{source.title} is not in MINIGRAD_DATA")
    images, labels = fetch(source, source.split(train=False), REAL)[0]
    assert images.shape == (10000, 28, 28)
    assert sorted(set(labels.tolist())) == list(range(10))


@needs_real_data
def test_real_mix_up(tmp_path):
    """MNIST in the folder of Fashion-MNIST, as it has happened."""
    paths = find_files(MNIST, MNIST.files, Path(REAL))
    if not paths:
        pytest.skip("MNIST is not in MINIGRAD_DATA")
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for path, file in zip(paths, MNIST.files, strict=True):
        write_idx(folder / file.name, read_idx(path))
    with pytest.raises(ChecksumError, match="wrong MD5") as caught:
        fetch(FASHION_MNIST, FASHION_MNIST.files[3:], tmp_path)
    lines = [" ".join(line.split()) for line in str(caught.value).splitlines()]
    assert lines[1] == f"expected {FASHION_MNIST.files[3].md5} Fashion-MNIST t10k-labels-idx1-ubyte"
    assert lines[2] == f"found {MNIST.files[3].md5} MNIST t10k-labels-idx1-ubyte"
    assert lines[3].startswith("hint: these are the bytes of MNIST t10k-labels-idx1-ubyte")
