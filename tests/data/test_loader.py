"""DataLoader: every example once, in the right order, shape, dtype and memory order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.data import ArrayDataset, DataLoader, Dataset, Lambda, Normalize, Subset, TensorDataset, ToFloat
from minigrad.errors import ArgumentError, DtypeError, ShapeError

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (23, 28, 28), dtype=np.uint8)
SCALED = IMAGES / np.float32(255)
NUMBERS = np.arange(23)  # each label is the number of its picture


@pytest.fixture
def data() -> ArrayDataset:
    return ArrayDataset(IMAGES, NUMBERS)


def labels(loader) -> list[int]:
    return [int(label) for _, y in loader for label in y.tolist()]


class OneByOne(Dataset):
    """A data set as a user writes it: no arrays, no gather."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


# 1. What a batch is ---


def test_batches_of_pictures(data):
    for number, (x, y) in enumerate(DataLoader(data, 10)):
        rows = slice(10 * number, 10 * number + 10)
        assert isinstance(x, mg.Tensor)
        assert isinstance(y, mg.Tensor)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.shape == (len(IMAGES[rows]), 1, 28, 28)
        assert (x.numpy() == IMAGES[rows, None].astype(np.float32) / np.float32(255)).all()
        assert y.tolist() == NUMBERS[rows].tolist()
        assert not x.requires_grad


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_pictures_are_batch_last_in_memory(channels, shuffle):
    images = IMAGES if channels is None else np.repeat(IMAGES[:, None], channels, axis=1)
    for x, _ in DataLoader(ArrayDataset(images, NUMBERS), 10, shuffle=shuffle):
        assert x.array.transpose(1, 2, 3, 0).flags.c_contiguous


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneByOne(list(zip(SCALED[:, None], NUMBERS.tolist(), strict=True))),
        lambda: TensorDataset(SCALED[:, None], NUMBERS),
        lambda: Subset(ArrayDataset(np.repeat(IMAGES, 2, axis=0), np.repeat(NUMBERS, 2)), range(0, 46, 2)),
        lambda: ArrayDataset(IMAGES, NUMBERS, transform=lambda x: ToFloat()(x)),  # one picture at a time
        lambda: ArrayDataset(SCALED, NUMBERS),
    ],
    ids=["one by one", "tensors", "subset", "slow transform", "floats"],
)
def test_every_kind_of_data_set_gives_the_same_batches(data, make):
    expected = list(DataLoader(data, 10, shuffle=True, generator=1))
    found = list(DataLoader(make(), 10, shuffle=True, generator=1))
    assert len(found) == len(expected) == 3
    for (x, y), (x_expected, y_expected) in zip(found, expected, strict=True):
        assert (x.numpy() == x_expected.numpy()).all()
        assert x.dtype == np.float32
        assert y.tolist() == y_expected.tolist()
        assert y.dtype == np.int64
        assert x.array.transpose(1, 2, 3, 0).flags.c_contiguous


def test_batches_agree_with_the_examples(data):
    (x, y), *_ = DataLoader(data, 5)
    for i in range(5):
        picture, label = data[i]
        assert (x[i].numpy() == picture.numpy()).all()
        assert y[i].item() == label


def test_writing_to_a_batch_leaves_the_data_set(data):
    floats = TensorDataset(mg.ones(6, 2))
    for loader in (DataLoader(data, 23), DataLoader(floats, 6)):
        for batch in loader:
            batch[0].array[...] = -1
    assert (data.images == IMAGES).all()
    assert (floats.tensors[0].numpy() == 1).all()


# 2. Order and number of batches ---


@given(st.integers(1, 40), st.integers(1, 45), st.booleans(), st.booleans())
def test_every_example_once(n, batch_size, shuffle, drop_last):
    if drop_last and n < batch_size:
        return
    data = TensorDataset(np.arange(n))
    loader = DataLoader(data, batch_size, shuffle, drop_last=drop_last)
    sizes = [len(batch) for (batch,) in loader]
    full, rest = divmod(n, batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0 and not drop_last)
    assert len(loader) == len(sizes)
    seen = [i for (batch,) in loader for i in batch.tolist()]
    assert len(set(seen)) == len(seen) == sum(sizes)
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_each_epoch_has_a_new_order(data):
    loader = DataLoader(data, 4, shuffle=True, generator=0)
    first, second = labels(loader), labels(loader)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(23))


def test_same_seed_same_order(data):
    orders = []
    for _ in range(2):
        mg.manual_seed(5)
        loader = DataLoader(data, 4, shuffle=True)
        orders.append([labels(loader), labels(loader)])
    assert orders[0] == orders[1]
    mg.manual_seed(6)
    assert labels(DataLoader(data, 4, shuffle=True)) != orders[0][0]


def test_own_generator_leaves_the_shared_one(data):
    before = mg.backend.random.get_state()
    generator = np.random.default_rng(3)
    first = labels(DataLoader(data, 4, shuffle=True, generator=generator))
    assert first == labels(DataLoader(data, 4, shuffle=True, generator=3))
    assert mg.backend.random.get_state() == before


def test_order_is_drawn_when_the_epoch_begins(data):
    """Not with the first batch: what is drawn in between must not change the order."""
    mg.manual_seed(1)
    expected = labels(DataLoader(data, 4, shuffle=True))
    mg.manual_seed(1)
    epoch = iter(DataLoader(data, 4, shuffle=True))
    mg.randn(3)
    assert labels(epoch) == expected


def test_two_epochs_at_a_time(data):
    loader = DataLoader(data, 5)
    pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(loader, loader, strict=True)]
    assert all(a == b for a, b in pairs)
    assert len(pairs) == 5


def test_no_order_is_drawn_without_shuffle(data):
    before = mg.backend.random.get_state()
    assert labels(DataLoader(data, 4)) == list(range(23))
    assert mg.backend.random.get_state() == before


# 3. Options ---


def test_transform_gets_the_batch(data):
    shapes = []

    def note(x):
        shapes.append(x.shape)
        return x * 2

    for x, y in DataLoader(data, 23, transform=note):
        assert (x.numpy() == IMAGES[:, None] / np.float32(255) * 2).all()
        assert y.shape == (23,)
    assert shapes == [(23, 1, 28, 28)]
    ((x, _),) = DataLoader(data, 23, transform=Normalize(0.5, 0.25))
    np.testing.assert_allclose(x.numpy(), (IMAGES[:, None] / 255 - 0.5) / 0.25, atol=1e-6)
    ((x, _),) = DataLoader(data, 23, transform=lambda x: mg.Tensor(x[:, :, :5]))
    assert x.shape == (23, 1, 5, 28)
    assert x.array.transpose(1, 2, 3, 0).flags.c_contiguous


def test_collate_fn(data):
    batches = list(DataLoader(data, 10, collate_fn=lambda examples: [label for _, label in examples]))
    assert batches == [list(range(10)), list(range(10, 20)), [20, 21, 22]]


def test_options_of_pytorch_are_accepted(data):
    assert len(DataLoader(data, batch_size=4, shuffle=True, num_workers=4, pin_memory=True)) == 6


def test_device_cpu(data):
    ((x, y),) = DataLoader(data, 23, device="cpu")
    assert x.device == "cpu"
    assert y.device == "cpu"


def test_collate_of_numbers_and_tensors():
    examples = [(mg.ones(2) * i, i, i / 2, i > 0, np.float64(i)) for i in range(3)]
    ((a, b, c, d, e),) = DataLoader(OneByOne(examples), 3)
    assert a.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert [t.dtype for t in (a, b, c, d, e)] == [np.float32, np.int64, np.float32, np.bool_, np.float64]
    assert b.tolist() == [0, 1, 2]
    assert c.tolist() == [0, 0.5, 1]
    assert d.tolist() == [False, True, True]


def test_examples_of_one_field():
    batches = list(DataLoader(OneByOne([1, 2, 3]), 2))
    assert [batch[0].tolist() for batch in batches] == [[1, 2], [3]]
    assert all(len(b) == 1 for b in batches)


# 4. Errors ---


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "8", None, True])
def test_bad_batch_size(data, batch_size):
    with pytest.raises(ArgumentError, match="batch_size must be an integer of at least 1, got"):
        DataLoader(data, batch_size)


def test_numpy_integers_are_integers(data):
    assert len(DataLoader(data, np.int64(10))) == 3


def test_empty_data_set():
    with pytest.raises(ArgumentError, match="the data set is empty"):
        DataLoader(ArrayDataset(IMAGES[:0], NUMBERS[:0]), 4)


def test_no_full_batch(data):
    with pytest.raises(ArgumentError, match="23 examples make no full batch of 24"):
        DataLoader(data, 24, drop_last=True)


def test_not_a_data_set():
    with pytest.raises(ArgumentError, match="generator is not a data set: it has no __len__"):
        DataLoader((i for i in range(3)), 2)


@pytest.mark.parametrize("generator", [-1, "seed", 0.5])
def test_bad_generator(data, generator):
    with pytest.raises(ArgumentError, match=r"numpy\.random\.Generator or a seed"):
        DataLoader(data, 4, generator=generator)


def test_bad_device(data):
    with pytest.raises(ArgumentError, match="unknown device 'gpu'"):
        DataLoader(data, 4, device="gpu")


def test_examples_that_do_not_fit_together():
    with pytest.raises(ShapeError, match=r"examples of one shape, got \(2,\) and \(3,\)"):
        next(iter(DataLoader(OneByOne([(np.zeros(2), 0), (np.zeros(3), 0)]), 2)))
    with pytest.raises(ShapeError, match=r"different numbers of fields: \[1, 2\]"):
        next(iter(DataLoader(OneByOne([(1, 2), (1,)]), 2)))
    with pytest.raises(DtypeError, match="cannot put str into a batch; give the loader a collate_fn"):
        next(iter(DataLoader(OneByOne([("a", 1)]), 1)))


def test_a_transform_of_single_pictures_may_change_their_shape():
    data = ArrayDataset(IMAGES, NUMBERS, transform=Lambda(lambda x: x[:, :3, :4] * np.float32(2)))
    ((x, _),) = DataLoader(data, 23)
    assert (x.numpy() == IMAGES[:, None, :3, :4] * np.float32(2)).all()
