"""The drawn garments: reproducible, balanced, black around, and neither trivial nor hopeless."""

import numpy as np
import pytest

from minigrad import backend
from minigrad.data.canvas import Canvas
from minigrad.data.catalog import FASHION_MNIST
from minigrad.data.garments import BLOCK, TEST_SIZE, TRAIN_SIZE, garments
from minigrad.data.silhouettes import SILHOUETTES
from minigrad.errors import ArgumentError


def same(a, b) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def some():
    return garments(train=True, size=3000)


def test_format(some):
    images, labels = some
    assert images.shape == (3000, 28, 28)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert labels.shape == (3000,)
    assert labels.dtype == np.uint8
    assert (TRAIN_SIZE, TEST_SIZE) == (60_000, 10_000)


def test_test_part_by_default_has_ten_thousand_balanced_pictures():
    images, labels = garments(train=False)
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert len({image.tobytes() for image in images}) > 9_990  # pictures, not copies


def test_same_seed_same_bytes_and_other_seed_other_bytes():
    assert same(garments(size=1200, seed=3), garments(size=1200, seed=3))
    assert not same(garments(size=50, seed=3), garments(size=50, seed=4))


@pytest.mark.parametrize("size", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1])
def test_a_smaller_size_is_the_beginning_of_a_larger(some, size):
    assert same(garments(size=size), [array[:size] for array in some])


def test_training_and_test_pictures_have_nothing_in_common(some):
    seen = {image.tobytes() for image in some[0]}
    assert not any(image.tobytes() in seen for image in garments(train=False, size=1000)[0])


def test_blocks_differ_from_each_other(some):
    assert not same([some[0][:BLOCK]], [some[0][BLOCK : 2 * BLOCK]])


def test_classes_are_mixed(some):
    """A hundred of each in each thousand, in no regular order."""
    labels = some[1].reshape(3, BLOCK).astype(int)
    assert all(np.bincount(block).tolist() == [100] * 10 for block in labels)
    assert len(set(labels[0, :50].tolist())) >= 8
    assert (labels[0] != labels[1]).mean() > 0.8


def test_background_is_black_and_every_picture_shows_something(some):
    images = some[0].reshape(len(some[0]), -1)
    assert 0.5 < (images == 0).mean() < 0.8  # Fashion-MNIST: 0.50, MNIST: 0.81
    assert ((images > 30).sum(axis=1) > 8).all()
    assert images.max() == 255


def test_each_class_is_drawn_by_its_own_function():
    assert [draw.__name__ for draw in SILHOUETTES] == [
        name.lower().replace("/top", "").replace("-", "_").replace(" ", "_") for name in FASHION_MNIST.classes
    ]


@pytest.mark.parametrize("draw", SILHOUETTES, ids=lambda draw: draw.__name__)
def test_silhouettes_stay_in_float32_and_in_range(draw):
    canvas = Canvas(np.random.default_rng(0), 40, 11.0, 12.0)
    draw(canvas)
    for array in (canvas.cover, canvas.light):
        assert array.dtype == np.float32
        assert array.shape == (40, 28, 28)
        assert np.isfinite(array).all()
    assert canvas.cover.min() >= 0
    assert canvas.cover.max() <= 1
    assert (canvas.cover.sum(axis=(1, 2)) > 8).all()


def test_profile_is_the_line_through_its_corners():
    canvas = Canvas(np.random.default_rng(0), 3, 10.0, 10.0)
    corners = [(-0.5, 0.25), (0.0, 1.0), (0.75, 0.5)]
    expected = np.interp(canvas.v, *zip(*corners, strict=True))
    np.testing.assert_allclose(canvas.profile(*corners), expected, atol=1e-6)


def test_the_shared_generator_is_left_alone():
    before = backend.random.get_state()
    garments(size=10)
    assert backend.random.get_state() == before


def test_a_linear_model_learns_something_but_far_from_everything(some):
    """Ridge regression onto the ten classes. With 60,000 pictures and cross-entropy it is about 0.76."""
    images, labels = some
    test_images, test_labels = garments(train=False, size=1000)
    x, x_test = (pictures.reshape(len(pictures), -1) / 255.0 for pictures in (images, test_images))
    weights = np.linalg.solve(x.T @ x + 30 * np.eye(784), x.T @ np.eye(10)[labels])
    accuracy = ((x_test @ weights).argmax(axis=1) == test_labels).mean()
    assert 0.5 < accuracy < 0.82


@pytest.mark.parametrize("size", [0, -1, 2.5, "10"])
def test_bad_size(size):
    with pytest.raises(ArgumentError, match="garments: size must be"):
        garments(size=size)


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_bad_seed(seed):
    with pytest.raises(ArgumentError, match="garments: seed must be"):
        garments(size=1, seed=seed)
