"""Transforms against loops, formulas and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.data import Compose, Lambda, Normalize, Resize, Standardize, ToFloat
from minigrad.errors import ArgumentError, DtypeError, ShapeError

RNG = np.random.default_rng(5)


# 1. ToFloat ---


def test_to_float_divides_every_byte_by_255():
    every = np.arange(256, dtype=np.uint8)
    y = ToFloat()(every)
    assert y.dtype == np.float32
    assert y.tolist() == [float(np.float32(i) / np.float32(255)) for i in range(256)]


@pytest.mark.parity
def test_to_float_has_the_values_of_torch():
    torch = pytest.importorskip("torch")
    every = np.arange(256, dtype=np.uint8)
    assert (ToFloat()(every) == torch.tensor(every).to(torch.float32).div(255).numpy()).all()


def test_to_float_leaves_its_input_and_floats_as_they_are():
    x = np.array([0.5, 300.0])
    y = ToFloat()(x)
    assert y.dtype == np.float32
    assert y.tolist() == [0.5, 300.0]
    assert x.dtype == np.float64
    z = np.array([0.5], dtype=np.float32)
    assert ToFloat()(z) is not z


def test_to_float_refuses_other_integers():
    with pytest.raises(DtypeError, match="takes uint8 or floats, got int64"):
        ToFloat()(np.array([1, 2]))


def test_tensor_in_tensor_out():
    x = mg.Tensor(np.array([0, 255], dtype=np.uint8))
    assert isinstance(ToFloat()(x), mg.Tensor)
    assert ToFloat()(x).tolist() == [0.0, 1.0]


# 2. Standardize ---


def test_standardize_gives_zero_mean_and_unit_variance():
    x = RNG.normal(3, 5, (5000, 2, 3))  # more than one piece
    y = Standardize().fit(x)(x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-12)


def test_standardize_takes_the_statistics_of_the_training_set():
    train, test = RNG.normal(3, 5, (9, 4)), RNG.normal(0, 1, (3, 4))
    standardize = Standardize().fit(train)
    np.testing.assert_allclose(standardize(test), (test - train.mean(axis=0)) / train.std(axis=0))
    assert standardize.fit(train) is standardize


def test_standardize_is_exact_far_from_zero():
    """The mean of squares less the squared mean would give anything but 1 here."""
    x = (RNG.normal(0, 1, (6000, 3)) + 1e6).astype(np.float32)
    standardize = Standardize().fit(x)
    np.testing.assert_allclose(standardize.std, x.astype(np.float64).std(axis=0), rtol=1e-9)


def test_constant_features_are_centred_only():
    x = np.array([[1.0, 7.0], [3.0, 7.0]], dtype=np.float32)
    y = Standardize().fit(x)(x)
    assert y.tolist() == [[-1, 0], [1, 0]]
    assert y.dtype == np.float32


@given(st.integers(0, 2**32 - 1))
def test_inverse(seed):
    x = np.random.default_rng(seed).normal(2, 3, (6, 2, 2))
    x[:, 0, 0] = 4  # a constant feature
    standardize = Standardize().fit(x)
    np.testing.assert_allclose(standardize.inverse(standardize(x)), x, rtol=1e-12, atol=1e-12)


def test_standardize_bytes_and_batches_with_a_channel():
    images = RNG.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    standardize = Standardize().fit(images)
    y = standardize(images[:, None])
    assert y.shape == (50, 1, 28, 28)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)


def test_standardize_tensors():
    x = mg.Tensor(RNG.normal(3, 5, (20, 4)).astype(np.float32))
    standardize = Standardize().fit(x)
    y = standardize(x)
    assert isinstance(y, mg.Tensor)
    assert abs(y.mean().item()) < 1e-6
    back = standardize.inverse(y)
    assert isinstance(back, mg.Tensor)
    np.testing.assert_allclose(back.numpy(), x.numpy(), rtol=1e-5)


def test_standardize_errors():
    with pytest.raises(ArgumentError, match="call fit"):
        Standardize()(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="at least one example"):
        Standardize().fit(np.zeros((0, 3)))
    with pytest.raises(ArgumentError, match="eps must be at least 0"):
        Standardize(eps=-1)
    standardize = Standardize().fit(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"fitted to features of shape \(3,\), got x of shape \(2, 4\)"):
        standardize(np.zeros((2, 4)))
    with pytest.raises(ShapeError, match="fitted to features"):
        standardize.inverse(np.zeros(()))


# 3. Normalize ---


@pytest.mark.parametrize("shape", [(3, 2, 2), (4, 3, 2, 2)])
def test_normalize_has_one_pair_of_numbers_for_each_channel(shape):
    x = RNG.random(shape)
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]
    y = Normalize(mean, std)(x)
    for c in range(3):
        np.testing.assert_allclose(y[..., c, :, :], (x[..., c, :, :] - mean[c]) / std[c])


def test_normalize_keeps_float32():
    assert Normalize(0.5, 0.5)(np.ones((3, 2, 2), dtype=np.float32)).dtype == np.float32


def test_normalize_errors():
    with pytest.raises(ArgumentError, match="std must be above 0"):
        Normalize(0, 0)
    with pytest.raises(ArgumentError, match="one length"):
        Normalize([0, 1], 1)
    with pytest.raises(DtypeError, match=r"put ToFloat\(\) before it"):
        Normalize(0, 1)(np.zeros((1, 2, 2), dtype=np.uint8))
    with pytest.raises(ShapeError, match="made for 2 channels"):
        Normalize([0, 1], [1, 1])(np.zeros((1, 2, 2)))


# 4. Resize ---


def bilinear_by_loops(x: np.ndarray, h: int, w: int) -> np.ndarray:
    """Enlarging only: a mixture of the four pixels around each centre, the outermost ones repeated."""
    y = np.empty((h, w))
    for i in range(h):
        for j in range(w):
            a, b = (i + 0.5) * x.shape[0] / h - 0.5, (j + 0.5) * x.shape[1] / w - 0.5
            top, left = int(np.floor(a)), int(np.floor(b))
            y[i, j] = 0
            for r, weight_r in ((top, 1 - (a - top)), (top + 1, a - top)):
                for c, weight_c in ((left, 1 - (b - left)), (left + 1, b - left)):
                    pixel = x[np.clip(r, 0, x.shape[0] - 1), np.clip(c, 0, x.shape[1] - 1)]
                    y[i, j] += weight_r * weight_c * pixel
    return y


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 7), st.integers(0, 7), st.integers(0, 999))
def test_enlarging_bilinear(h, w, more_h, more_w, seed):
    x = np.random.default_rng(seed).random((h, w))
    y = Resize((h + more_h, w + more_w))(x)
    np.testing.assert_allclose(y, bilinear_by_loops(x, h + more_h, w + more_w), rtol=1e-10, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("size", [(28, 28), (64, 64), (9, 13), (1, 1), (27, 40)])
def test_resize_agrees_with_torch(size):
    torch = pytest.importorskip("torch")
    x = RNG.random((2, 3, 28, 20))
    kinds = {"bilinear": {"mode": "bilinear", "antialias": True}, "nearest": {"mode": "nearest-exact"}}
    for mode, options in kinds.items():
        expected = torch.nn.functional.interpolate(torch.tensor(x), size, **options).numpy()
        np.testing.assert_allclose(Resize(size, mode=mode)(x), expected, rtol=1e-10, atol=1e-12)


def test_reducing_uses_every_pixel_and_keeps_a_constant():
    assert Resize(4)(np.full((16, 16), 0.25)).tolist() == [[0.25] * 4] * 4
    for at in range(12):
        spot = np.zeros((12, 12))
        spot[at, at] = 1
        assert Resize(3)(spot).sum() > 0


def test_resize_bytes_stay_bytes_and_are_rounded():
    x = np.array([[0, 255]], dtype=np.uint8)
    y = Resize((1, 4))(x)
    assert y.dtype == np.uint8
    assert y.tolist() == [[0, 64, 191, 255]]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_resize_one_number_is_the_shorter_side(mode):
    assert Resize(14, mode=mode)(np.zeros((2, 1, 28, 56))).shape == (2, 1, 14, 28)
    assert Resize(14, mode=mode)(np.zeros((60, 28))).shape == (30, 14)


def test_resize_to_the_same_size_changes_nothing():
    x = RNG.random((2, 28, 28))
    for mode in ("bilinear", "nearest"):
        assert (Resize(28, mode=mode)(x) == x).all()


@pytest.mark.parametrize("size", [0, (3, 0), (1, 2, 3), 2.5, "12", ()])
def test_resize_bad_size(size):
    with pytest.raises(ArgumentError, match="Resize: size must be"):
        Resize(size)


def test_resize_other_errors():
    with pytest.raises(ArgumentError, match="mode must be 'bilinear' or 'nearest', got 'cubic'"):
        Resize(3, mode="cubic")
    with pytest.raises(ShapeError, match=r"takes pictures \(..., H, W\), got shape \(3,\)"):
        Resize(3)(np.zeros(3))
    with pytest.raises(ShapeError, match="takes pictures"):
        Resize(3)(np.zeros((2, 0)))


# 5. Lambda and Compose ---


def test_compose_applies_in_order():
    both = Compose([lambda x: x + 1, lambda x: x * 10])
    assert both(np.array([1.0])).tolist() == [20.0]
    assert Compose([])(np.array([1.0])).tolist() == [1.0]


def test_what_may_be_given_a_batch():
    assert Compose([ToFloat(), Resize(3), Lambda(abs, batched=True)]).batched
    assert not Lambda(abs).batched
    assert not Compose([ToFloat(), abs]).batched
    assert not Compose([ToFloat(), Compose([abs])]).batched


def test_compose_and_lambda_refuse_what_cannot_be_called():
    with pytest.raises(ArgumentError, match="Compose: takes a list of transforms"):
        Compose([ToFloat(), 3])
    with pytest.raises(ArgumentError, match="Lambda: takes a function"):
        Lambda(3)


def test_representations_say_what_the_transform_does():
    text = repr(Compose([Resize(64), ToFloat(), Normalize(0.5, [0.25])]))
    assert text == "Compose([Resize(64, mode='bilinear'), ToFloat(), Normalize(mean=[0.5], std=[0.25])])"
    assert repr(Standardize()) == "Standardize(not fitted)"
    assert repr(Standardize().fit(np.zeros((2, 3)))) == "Standardize(features (3,))"
