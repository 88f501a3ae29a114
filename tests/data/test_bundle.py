"""`load` and the published data sets as classes: what is taken, when it is refused, what the user reads."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import MNIST, DataLoader, FashionMNIST, Resize, bundle, garments, load
from minigrad.data.catalog import FASHION_MNIST, SOURCES, ChecksumError
from minigrad.data.download import DataUnavailableError
from minigrad.data.idx import write_idx
from minigrad.errors import ArgumentError, DataError
from tests.data.conftest import ARRAYS, TINY

REAL = os.environ.get("MINIGRAD_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="no real data: MINIGRAD_DATA is not set")
NOBODY = ["http://127.0.0.1:9/"]  # the discard port: connection refused


@pytest.fixture
def small(monkeypatch):
    """Fashion-MNIST, except that the published files are the tiny ones."""
    source = dataclasses.replace(FASHION_MNIST, files=TINY.files, folders=TINY.folders, mirrors=tuple(NOBODY))
    monkeypatch.setattr(bundle, "FASHION_MNIST", source)
    monkeypatch.setitem(SOURCES, "fashion_mnist", source)
    monkeypatch.setattr(FashionMNIST, "source", source)
    return source


# 1. load ---


@pytest.mark.parametrize("name", ["auto", "fashion_mnist", "fashion-mnist"])
def test_found(small, tiny_folder, name):
    said: list[str] = []
    data = load(name, tiny_folder, say=said.append)
    assert (data.name, data.title, data.note) == ("fashion_mnist", "Fashion-MNIST", "")
    assert data.origin == str(tiny_folder / "tiny")
    assert said == []
    assert (data.train.images == ARRAYS["train-images-idx3-ubyte"]).all()
    assert (data.test.images == ARRAYS["t10k-images-idx3-ubyte"]).all()
    assert data.train.labels.tolist() == ARRAYS["train-labels-idx1-ubyte"].tolist()
    assert data.test.labels.tolist() == ARRAYS["t10k-labels-idx1-ubyte"].tolist()
    assert data.train.classes[9] == data.test.classes[9] == "Ankle boot"


def test_auto_falls_back_to_the_garments_and_says_so(small, capfd):
    data = load("auto", train_size=30, test_size=20)
    assert data.name == "garments"
    assert data.origin == "drawn by code, seed 0"
    assert len(data.train) == 30
    assert len(data.test) == 20
    assert (data.train.images == garments(True, 30)[0]).all()
    assert (data.test.images == garments(False, 20)[0]).all()
    out, err = capfd.readouterr()
    assert out.splitlines() == [data.note]
    assert err == ""
    for word in ("NOTE", "Fashion-MNIST", "garments drawn by code", "MINIGRAD_DATA"):
        assert word in data.note


def test_auto_in_silence(small, capfd):
    assert load(train_size=5, test_size=5, say=None).note != ""
    assert load(train_size=5, test_size=5, say=None, download=False).note != ""
    assert capfd.readouterr() == ("", "")


def test_by_name_there_is_no_fallback(small):
    with pytest.raises(DataUnavailableError, match="no mirror delivered"):
        load("fashion_mnist", say=None)
    with pytest.raises(DataUnavailableError, match="MNIST: no mirror delivered"):
        load("mnist", mirrors=NOBODY, say=None)


def test_auto_does_not_hide_a_wrong_folder(small, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load("auto", tmp_path / "typo")


def test_auto_does_not_hide_a_wrong_file(small, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder / "tiny", tmp_path / "cache" / "tiny")
    write_idx(tmp_path / "cache" / "tiny" / "t10k-labels-idx1-ubyte.gz", np.zeros(10, dtype=np.uint8))
    with pytest.raises(ChecksumError, match="wrong MD5"):
        load("auto", say=None)


def test_garments_by_name_need_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "typo"))
    data = load("garments", seed=3, train_size=10, test_size=10, transform=Resize(14))
    assert data.note == ""
    assert data.origin == "drawn by code, seed 3"
    assert (data.train.images == garments(True, 10, seed=3)[0]).all()
    assert data.train[0][0].shape == data.test[0][0].shape == (1, 14, 14)


def test_sizes(small, tiny_folder):
    data = load("fashion_mnist", tiny_folder, train_size=7, test_size=3)
    assert len(data.train) == 7
    assert len(data.test) == 3
    with pytest.raises(ArgumentError, match="takes 1 to 20 examples, got 21"):
        load("fashion_mnist", tiny_folder, train_size=21)


@pytest.mark.parametrize("name", ["cifar10", "", None, 3])
def test_unknown_name(name):
    with pytest.raises(ArgumentError, match=r"unknown data set .*: use auto, fashion_mnist, mnist, garments"):
        load(name)


# 2. The classes ---


def test_class_in_the_spirit_of_torchvision(small, tiny_folder):
    data = FashionMNIST(root=tiny_folder, train=True, download=False)
    assert len(data) == 20
    assert data.classes[0] == "T-shirt/top"
    assert data.train
    image, label = data[3]
    assert image.shape == (1, 28, 28)
    assert label == 3
    assert data.data.shape == (20, 28, 28)
    assert data.data.dtype == np.uint8
    assert data.targets.tolist() == ARRAYS["train-labels-idx1-ubyte"].tolist()
    assert len(FashionMNIST(tiny_folder, train=False)) == 10
    assert FashionMNIST(tiny_folder, False, Resize(8))[0][0].shape == (1, 8, 8)
    assert repr(data) == "FashionMNIST(20 pictures 28 x 28, 10 classes)"


def test_class_with_an_empty_root_looks_further(small, tiny_folder, tmp_path, monkeypatch):
    """The tutorial's root="../data" need not exist."""
    monkeypatch.setenv("MINIGRAD_DATA", str(tiny_folder))
    data = FashionMNIST(root=tmp_path / "nothing", train=True)
    assert len(data) == 20
    assert data.root == str(tiny_folder / "tiny")
    with pytest.raises(DataError, match="does not exist"):
        FashionMNIST(root=tmp_path / "nothing", train=True, download=False)


def test_class_prefers_its_root(small, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "typo"))
    assert FashionMNIST(tiny_folder).root == str(tiny_folder / "tiny")


def test_class_without_a_network(small):
    with pytest.raises(DataUnavailableError):
        FashionMNIST(say=None)


# 3. The real data ---


@needs_real_data
def test_real_fashion_mnist():
    data = load("fashion_mnist", REAL)
    assert data.train.images.shape == (60000, 28, 28)
    assert data.test.images.shape == (10000, 28, 28)
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    # Mean and standard deviation of the pixels, as they are quoted everywhere for this data set.
    assert abs(data.train.images.mean() / 255 - 0.2860) < 1e-4
    assert abs(data.train.images.std() / 255 - 0.3530) < 1e-4
    loader = DataLoader(data.train, 256, shuffle=True, generator=0)
    sizes = [x.shape for x, _ in loader]
    assert sizes == [(256, 1, 28, 28)] * 234 + [(96, 1, 28, 28)]


@needs_real_data
def test_real_mnist():
    data = MNIST(REAL, train=False, download=False)
    assert len(data) == 10000
    assert data.classes[7] == "7"
    assert [data[i][1] for i in range(5)] == [7, 2, 1, 0, 4]
    assert isinstance(data[0][0], mg.Tensor)
