"""Data sets: what an example is, what is refused, and how they are split."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import ArrayDataset, Dataset, Resize, Subset, TensorDataset, random_split
from minigrad.errors import ArgumentError, DtypeError, LabelError, ShapeError

IMAGES = np.random.default_rng(2).integers(0, 256, (6, 28, 28), dtype=np.uint8)
CLASSES = ("a", "b", "c")


# 1. ArrayDataset ---


def test_an_example():
    data = ArrayDataset(IMAGES, [0, 1, 2, 0, 1, 2], CLASSES)
    picture, label = data[4]
    assert len(data) == 6
    assert data.classes == CLASSES
    assert isinstance(picture, mg.Tensor)
    assert picture.shape == (1, 28, 28)
    assert picture.dtype == np.float32
    assert (picture.numpy() == IMAGES[4][None].astype(np.float32) / np.float32(255)).all()
    assert label == 1
    assert type(label) is int
    assert (data[-1][0].numpy() == data[5][0].numpy()).all()
    assert data[np.int64(2)][1] == 2


def test_iteration_ends():
    """Python iterates over anything with __getitem__ until an IndexError."""
    assert [label for _, label in ArrayDataset(IMAGES, range(6))] == list(range(6))
    with pytest.raises(IndexError):
        ArrayDataset(IMAGES, range(6))[6]


def test_pictures_with_channels():
    data = ArrayDataset(np.zeros((2, 3, 8, 9), dtype=np.uint8), [0, 1])
    assert data[0][0].shape == (3, 8, 9)


def test_transform_of_an_example():
    assert ArrayDataset(IMAGES, range(6), transform=Resize(14))[0][0].shape == (1, 14, 14)
    assert ArrayDataset(IMAGES, range(6), transform=lambda x: x.sum())[0][0].item() == IMAGES[0].sum()


def test_tensors_as_input():
    data = ArrayDataset(mg.zeros(2, 4, 4), mg.tensor([1, 0]))
    assert data[0][1] == 1


def test_head():
    data = ArrayDataset(IMAGES, range(6), transform=Resize(14))
    part = data.head(2)
    assert len(part) == 2
    assert part[1][0].shape == (1, 14, 14)
    assert np.shares_memory(part.images, data.images)
    for size in (0, 7):
        with pytest.raises(ArgumentError, match=f"takes 1 to 6 examples, got {size}"):
            data.head(size)


def test_representation():
    assert repr(ArrayDataset(IMAGES, range(6), "abcdef")) == "ArrayDataset(6 pictures 28 x 28, 6 classes)"


@pytest.mark.parametrize(("labels", "message"), [
    ([0, 1, 3, 0, 4, 0], "label 3 of example 2 is not 0 to 2"),
    ([0, -1, 0, 0, 0, 0], "label -1 of example 1 is not 0 to 2"),
])  # fmt: skip
def test_labels_out_of_range(labels, message):
    with pytest.raises(LabelError, match=message):
        ArrayDataset(IMAGES, labels, CLASSES)


def test_negative_labels_without_classes():
    with pytest.raises(LabelError, match="label -2 of example 5 is not at least 0"):
        ArrayDataset(IMAGES, [0, 1, 2, 3, 4, -2])


def test_bad_arrays():
    with pytest.raises(ShapeError, match=r"6 images need labels \(n,\), got \(5,\)"):
        ArrayDataset(IMAGES, range(5))
    with pytest.raises(ShapeError, match=r"got \(6, 1\)"):
        ArrayDataset(IMAGES, np.zeros((6, 1), dtype=int))
    with pytest.raises(ShapeError, match=r"must be \(n, H, W\) or \(n, C, H, W\), got \(6, 784\)"):
        ArrayDataset(IMAGES.reshape(6, 784), range(6))
    with pytest.raises(DtypeError, match="images must be uint8 or floats, got int64"):
        ArrayDataset(IMAGES.astype(np.int64), range(6))
    with pytest.raises(DtypeError, match="labels must be integers, got float64"):
        ArrayDataset(IMAGES, np.zeros(6))


# 2. TensorDataset, Subset, Dataset ---


def test_tensor_dataset():
    x, y = mg.randn(5, 3), mg.arange(5)
    data = TensorDataset(x, y)
    assert len(data) == 5
    assert data[3][0].tolist() == x[3].tolist()
    assert data[3][1].item() == 3
    assert data[1:3][1].tolist() == [1, 2]


def test_tensor_dataset_errors():
    with pytest.raises(ShapeError, match=r"same length, got shapes \[\(5,\), \(4, 2\)\]"):
        TensorDataset(mg.zeros(5), mg.zeros(4, 2))
    with pytest.raises(ShapeError, match="same length"):
        TensorDataset(mg.tensor(1.0))
    with pytest.raises(ArgumentError, match="at least one tensor"):
        TensorDataset()


def test_subset():
    subset = Subset(ArrayDataset(IMAGES, range(6)), [5, 0, 0])
    assert [label for _, label in subset] == [5, 0, 0]
    assert len(subset) == 3
    assert subset.gather(np.array([2, 0]))[1].tolist() == [0, 5]
    nested = Subset(subset, [1])
    assert nested[0][1] == 0
    assert nested.gather(np.array([0]))[1].tolist() == [0]


@pytest.mark.parametrize("indices", [[6], [-1], [[0, 1]]])
def test_subset_bad_indices(indices):
    with pytest.raises(ArgumentError, match="numbers from 0 to 5"):
        Subset(range(6), indices)


def test_dataset_without_methods():
    class Empty(Dataset):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no __len__"):
        len(Empty())
    with pytest.raises(NotImplementedError, match="Empty has no __getitem__"):
        Empty()[0]


# 3. random_split ---


@pytest.mark.parametrize(("lengths", "sizes"), [
    ([7, 3], [7, 3]),
    ([10, 0], [10, 0]),
    ([0.5, 0.5], [5, 5]),
    ([1 / 3, 1 / 3, 1 / 3], [4, 3, 3]),
    ([0.99, 0.01], [10, 0]),
])  # fmt: skip
def test_parts_cover_everything_once(lengths, sizes):
    parts = random_split(range(10), lengths, generator=0)
    assert [len(part) for part in parts] == sizes
    assert sorted(number for part in parts for number in part) == list(range(10))


def test_split_is_random_and_reproducible():
    first, again, other = (list(random_split(range(50), [25, 25], generator=s)[0]) for s in (0, 0, 1))
    assert first == again != other
    assert first != sorted(first)
    mg.manual_seed(0)
    assert list(random_split(range(50), [25, 25])[0]) == first


@pytest.mark.parametrize("lengths", [[5, 4], [0.5, 0.4], [11, -1], [2.5, 7.5], []])
def test_bad_lengths(lengths):
    with pytest.raises(ArgumentError, match="random_split: lengths must"):
        random_split(range(10), lengths)
