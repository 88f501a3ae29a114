"""Data sets: objects with a length and examples by number, as in PyTorch.

A data set of your own needs only `__len__` and `__getitem__`. One that holds its examples in arrays can also
have `gather(indices)`, which returns a whole batch as a tuple of arrays in one step; the loader uses it if
it is there, and otherwise fetches examples one by one and puts them together (`collate`).

On the CPU images are delivered *batch-last*: their shape is (N, C, H, W), their order in memory C, H, W, N,
which is the order that the convolution works in. On a GPU they have the order of their shape. Nothing but
speed depends on it.

Reading order: `ArrayDataset`, `collate`, then `loader.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.data.transforms import ToFloat
from minigrad.errors import ArgumentError, DtypeError, LabelError, ShapeError
from minigrad.tensor import Tensor

__all__ = [
    "ArrayDataset",
    "Dataset",
    "Subset",
    "TensorDataset",
    "batch_last",
    "collate",
    "gather",
    "random_split",
]

Array = Any  # a NumPy or CuPy array


class Dataset:
    """Base class for data sets of your own: define `__len__` and `__getitem__`.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 5
    ...     def __getitem__(self, index):
    ...         return float(index), index**2
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")


class ArrayDataset(Dataset):
    """Pictures and their labels, held in two arrays.

    `dataset[i]` is (picture, label): a Tensor of shape (C, H, W) after the transform, and an int.

    Args:
        images: (n, H, W) for one channel, or (n, C, H, W); bytes or floats.
        labels: n integers.
        classes: names of the classes; labels must be below their number.
        transform: from array to array; None means ToFloat(), float32 from 0 to 1.

    Attributes:
        label_range: the smallest and the largest label.

    Raises:
        ShapeError: images are not pictures, or there are not as many labels as images.
        DtypeError: images are neither bytes nor floats, or labels not integers.
        LabelError: a label is negative or not below the number of classes.

    >>> data = ArrayDataset(np.zeros((3, 28, 28), dtype=np.uint8), [0, 2, 1], classes=("a", "b", "c"))
    >>> picture, label = data[1]
    >>> picture.shape, label, data.classes[label]
    ((1, 28, 28), 2, 'c')
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        classes: Sequence[str] = (),
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.images = _as_array(images)
        self.labels = _as_array(labels)
        self.classes = tuple(classes)
        self.transform: Callable[[Any], Any] = ToFloat() if transform is None else transform
        self._check()
        self.labels = self.labels.astype(np.int64)

    def _check(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim not in (3, 4):
            raise ShapeError(f"ArrayDataset: images must be (n, H, W) or (n, C, H, W), got {images.shape}")
        if labels.shape != images.shape[:1]:
            raise ShapeError(f"ArrayDataset: {images.shape[0]} images need labels (n,), got {labels.shape}")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise DtypeError(f"ArrayDataset: images must be uint8 or floats, got {images.dtype}")
        if labels.dtype.kind not in "iu":
            raise DtypeError(f"ArrayDataset: labels must be integers, got {labels.dtype}")
        host = backend.to_numpy(labels)
        self.label_range = (int(host.min()), int(host.max())) if host.size else (0, 0)
        bad = host < 0
        if self.classes:
            bad |= host >= len(self.classes)
        if bad.any():
            at = int(bad.argmax())
            legal = f"0 to {len(self.classes) - 1}" if self.classes else "at least 0"
            raise LabelError(f"ArrayDataset: label {host[at]} of example {at} is not {legal}")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index = operator.index(index)
        picture = self._with_channel(self.images[index])
        return _as_tensor(self.transform(picture)), int(self.labels[index])

    def gather(self, indices: Array) -> tuple[Array, Array]:
        """Pictures (N, C, H, W), batch-last, and labels (N,) of the examples `indices`."""
        indices = backend.to_device(indices, backend.device_of(self.images))
        # Turning the bytes before they become floats moves a quarter of the memory.
        pictures = batch_last(self._with_channel(self.images.take(indices, 0)))
        labels = self.labels.take(indices, 0)
        if getattr(self.transform, "batched", False):
            return self.transform(pictures), labels
        return _stack([_as_array(self.transform(picture)) for picture in pictures]), labels

    def _with_channel(self, pictures: Array) -> Array:
        return pictures if self.images.ndim == 4 else pictures[..., None, :, :]

    def head(self, size: int) -> ArrayDataset:
        """The first `size` examples as a data set that shares memory with this one."""
        if not 1 <= size <= len(self):
            raise ArgumentError(f"head: takes 1 to {len(self)} examples, got {size}")
        return ArrayDataset(self.images[:size], self.labels[:size], self.classes, self.transform)

    def to(self, device: Any) -> ArrayDataset:
        """The same data set with its arrays on `device`, where `gather` then works."""
        images, labels = (backend.to_device(array, device) for array in (self.images, self.labels))
        return ArrayDataset(images, labels, self.classes, self.transform)

    def __repr__(self) -> str:
        shape = " x ".join(str(length) for length in self.images.shape[1:])
        classes = len(self.classes) or "unnamed"
        return f"{type(self).__name__}({len(self)} pictures {shape}, {classes} classes)"


class TensorDataset(Dataset):
    """Tensors with a common first axis; example i is the i-th row of each.

    Raises:
        ArgumentError: no tensor is given.
        ShapeError: the tensors differ in length.

    >>> import minigrad as mg
    >>> data = TensorDataset(mg.zeros(4, 3), mg.arange(4))
    >>> len(data), data[2][1].item()
    (4, 2)
    """

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset: needs at least one tensor")
        self.tensors = tuple(_as_tensor(tensor) for tensor in tensors)
        shapes = [tensor.shape for tensor in self.tensors]
        if any(not shape or shape[0] != (shapes[0] or (None,))[0] for shape in shapes):
            raise ShapeError(f"TensorDataset: tensors must have the same length, got shapes {shapes}")

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def gather(self, indices: Array) -> tuple[Array, ...]:
        """The rows `indices` of each tensor."""
        arrays: list[Array] = [tensor.array for tensor in self.tensors]
        return tuple(a.take(backend.to_device(indices, backend.device_of(a)), 0) for a in arrays)


class Subset(Dataset):
    """The examples of `dataset` whose numbers are in `indices`.

    >>> list(Subset("abcdef", [4, 0]))
    ['e', 'a']
    """

    def __init__(self, dataset: Any, indices: Any) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)
        bad = (self.indices < 0) | (self.indices >= len(dataset))
        if self.indices.ndim != 1 or bad.any():
            raise ArgumentError(f"Subset: indices must be a list of numbers from 0 to {len(dataset) - 1}")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[operator.index(index)])]

    def gather(self, indices: Array) -> tuple[Array, ...]:
        """The batch that `dataset` gives for these examples of the subset."""
        return gather(self.dataset, self.indices[indices])


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Splits a data set at random into parts that do not overlap.

    Args:
        lengths: numbers of examples that add up to all, or fractions that add up to 1. With fractions, what
            rounding down leaves over goes to the first parts, one each, as in PyTorch.
        generator: numpy.random.Generator or seed; default: the one of `minigrad.manual_seed`.

    >>> [len(part) for part in random_split(range(10), [0.75, 0.25], generator=0)]
    [8, 2]
    """
    n = len(dataset)
    if any(length < 0 for length in lengths):
        raise ArgumentError(f"random_split: lengths must not be negative, got {list(lengths)}")
    if abs(sum(lengths) - 1) < 1e-6 and any(0 < length < 1 for length in lengths):
        sizes = [int(n * length) for length in lengths]
        for extra in range(n - sum(sizes)):
            sizes[extra % len(sizes)] += 1
    elif sum(lengths) == n and all(int(length) == length for length in lengths):
        sizes = [int(length) for length in lengths]
    else:
        raise ArgumentError(f"random_split: lengths must add up to {n}, or to 1, got {list(lengths)}")
    order = random_generator(generator).permutation(n)
    ends = np.cumsum(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def random_generator(generator: Any) -> np.random.Generator:
    """A generator from a generator, a seed, or None (the one of `minigrad.manual_seed`)."""
    if generator is None:
        return backend.random.generator()
    if isinstance(generator, np.random.Generator):
        return generator
    try:
        return np.random.default_rng(operator.index(generator))
    except (TypeError, ValueError):
        raise ArgumentError(
            f"generator must be a numpy.random.Generator or a seed of at least 0, got {generator!r}"
        ) from None


# Batches ---


def gather(dataset: Any, indices: np.ndarray) -> tuple[Array, ...]:
    """The examples `indices` as a tuple of arrays, one per field, each with the batch axis first."""
    if hasattr(dataset, "gather"):
        return dataset.gather(indices)
    return collate([dataset[int(index)] for index in indices])


def collate(examples: Sequence[Any]) -> tuple[Array, ...]:
    """Puts examples together: a tuple of arrays, one per field of an example.

    Tensors and arrays of one shape are stacked; ints become int64, Python floats float32.

    >>> collate([(0.5, 1), (2.0, 3)])
    (array([0.5, 2. ], dtype=float32), array([1, 3]))
    """
    rows = [example if isinstance(example, (tuple, list)) else (example,) for example in examples]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1:
        raise ShapeError(f"collate: examples have different numbers of fields: {lengths}")
    return tuple(_stack([_field(value) for value in column]) for column in zip(*rows, strict=True))


def _field(value: Any) -> Array:
    if isinstance(value, bool | int):
        return np.asarray(value, dtype=np.bool_ if isinstance(value, bool) else np.int64)
    if isinstance(value, float) and not isinstance(value, np.floating):
        return np.asarray(value, dtype=np.float32)
    if isinstance(value, Tensor | np.generic) or backend.is_array(value):
        return _as_array(value)
    raise DtypeError(
        f"collate: cannot put {type(value).__name__} into a batch; give the loader a collate_fn, "
        "or let the data set return tensors, arrays and numbers"
    )


def _stack(arrays: Sequence[Array]) -> Array:
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise ShapeError(f"a batch needs examples of one shape, got {' and '.join(map(str, sorted(shapes)))}")
    return backend.namespace(*arrays).stack(arrays)


def batch_last(x: Array) -> Array:
    """Images (N, C, H, W) in the memory order C, H, W, N; a copy only if they are not in it. Others as is.

    So are images on a GPU, whose kernels take the order of the shape.

    >>> batch_last(np.zeros((5, 1, 2, 2))).transpose(1, 2, 3, 0).flags.c_contiguous
    True
    """
    if x.ndim != 4 or backend.device_of(x).type != "cpu":
        return x
    return backend.namespace(x).ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)


def _as_array(value: Any) -> Array:
    if isinstance(value, Tensor):
        return value.array
    return value if backend.is_array(value) else np.asarray(value)


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else Tensor(_as_array(value))
