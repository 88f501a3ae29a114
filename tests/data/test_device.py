"""The same batches on every device: NumPy, the strict stand-in for CuPy, and a GPU where there is one."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend
from minigrad.data import ArrayDataset, DataLoader, Subset, TensorDataset
from minigrad.data.transforms import Compose, Normalize, Resize, Standardize, ToFloat
from tests import strict

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 256, (11, 12, 12), dtype=np.uint8)
LABELS = np.arange(11) % 3


def host(x: mg.Tensor) -> np.ndarray:
    return backend.to_numpy(x.array)


def transforms():
    return {
        "none": None,
        "compose": Compose([Resize(8), ToFloat(), Normalize(0.3, 0.4)]),
        "nearest": Compose([ToFloat(), Resize(8, mode="nearest")]),
        "standardize": Standardize().fit(IMAGES),
        "one by one": lambda x: x[:, :4],
    }


@pytest.mark.parametrize("name", transforms())
def test_batches_of_pictures(device, name):
    data = ArrayDataset(IMAGES, LABELS, transform=transforms()[name])
    here = list(DataLoader(data, 4, shuffle=True, generator=0))
    there = list(DataLoader(data, 4, shuffle=True, generator=0, device=device))
    for (x, y), (x_there, y_there) in zip(here, there, strict=True):
        assert x_there.device.type == y_there.device.type == device
        assert x_there.dtype == x.dtype
        assert y_there.dtype == np.int64
        np.testing.assert_allclose(host(x_there), host(x), rtol=1e-6, atol=1e-6)
        assert host(y_there).tolist() == host(y).tolist()


def test_other_data_sets(device):
    pictures = ArrayDataset(IMAGES, LABELS)
    pairs = list(zip(IMAGES, LABELS, strict=True))
    for data in (Subset(pictures, [3, 1, 4]), TensorDataset(IMAGES / 255.0, LABELS), pairs):
        here, there = (list(DataLoader(data, 2, device=d)) for d in (None, device))
        for a, b in zip(here, there, strict=True):
            for field, field_there in zip(a, b, strict=True):
                assert field_there.device.type == device
                assert (host(field_there) == host(field)).all()


def test_a_data_set_on_the_device(device):
    data = ArrayDataset(IMAGES, LABELS, "abc").to(device)
    assert backend.device_of(data.images).type == device
    x, y = data.gather(np.array([2, 0]))
    assert backend.device_of(x).type == backend.device_of(y).type == device
    np.testing.assert_allclose(backend.to_numpy(x), IMAGES[[2, 0], None] / 255, rtol=1e-6)
    picture, label = data[2]
    assert picture.device.type == device
    assert label == 2
    tensors = TensorDataset(mg.Tensor(data.images), mg.Tensor(data.labels))
    assert backend.to_numpy(tensors.gather(np.array([1]))[1]).tolist() == [1]


def test_inverse(device):
    x = mg.Tensor(backend.to_device(RNG.random((5, 3)).astype(np.float32), device))
    standardize = Standardize().fit(x)
    np.testing.assert_allclose(host(standardize.inverse(standardize(x))), host(x), rtol=1e-5)


def test_constants_are_sent_once():
    """Not for each batch; new statistics are other constants."""
    strict.install()
    standardize = Standardize()
    transform = Compose([Resize(12, mode="nearest"), Resize(6), ToFloat(), Normalize(0.4, 0.2), standardize])
    standardize.fit(RNG.random((8, 1, 6, 6)))
    x = backend.to_device(IMAGES, "strict")[:, None]
    first = backend.to_numpy(transform(x))
    strict.counts.reset()
    again = transform(x[:2])
    assert strict.counts.uploads == 0
    np.testing.assert_array_equal(backend.to_numpy(again), first[:2])
    standardize.fit(RNG.random((8, 1, 6, 6)) * 5)
    np.testing.assert_allclose(
        backend.to_numpy(transform(x)), transform(IMAGES[:, None]), rtol=1e-5, atol=1e-5
    )
