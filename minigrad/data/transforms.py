"""Transforms: functions from pictures to pictures, for one (C, H, W) or a whole batch (N, C, H, W).

They take and return arrays, NumPy's or CuPy's; given a Tensor they return a Tensor. Because they work on
the last axes, a data set can transform a whole batch in one step. A function of your own that takes one
picture at a time is a transform too, only slower; `Lambda` can mark it as fit for batches.

    Compose([Resize(64), ToFloat(), Normalize(0.2860, 0.3530)])

`Standardize` is where the idea of batch normalisation starts: inputs with zero mean and unit variance are
easier to learn from. There the statistics are taken once, from the training set; batch normalisation takes
them again in every layer and every batch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.tensor import Tensor

__all__ = ["Compose", "Lambda", "Normalize", "Resize", "Standardize", "ToFloat", "Transform"]

Array = Any  # a NumPy or CuPy array


class Transform:
    """Base of the transforms. A subclass defines `apply`, from array to array.

    Attributes:
        batched: whether a whole batch may be given at once.
    """

    batched = True

    def __call__(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return Tensor(self.apply(x.array))
        return self.apply(x if backend.is_array(x) else np.asarray(x))

    def apply(self, x: Array) -> Array:
        raise NotImplementedError

    def constant(self, value: np.ndarray, x: Array) -> Array:
        """`value` in the library and on the device of x; to a GPU it is copied once and not for each batch."""
        device = backend.device_of(x)
        if device.type == "cpu":
            return value
        copies = vars(self).setdefault("_copies", {})
        key = (device, value.dtype, value.shape, value.tobytes())
        if key not in copies:
            copies[key] = backend.to_device(value, device)  # kept for good: a CUDA graph may read it
        return copies[key]

    def _like(self, value: np.ndarray, x: Array) -> Array:
        """A constant in the library, device and float dtype of x (float32 if x holds integers)."""
        return self.constant(value.astype(x.dtype if x.dtype.kind == "f" else np.float32), x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ToFloat(Transform):
    """Bytes 0 .. 255 become float32 0 .. 1, by division by 255; floats become float32 and keep their values.

    The values are those of PyTorch's `ToTensor`. The shape stays.

    >>> ToFloat()(np.array([0, 51, 255], dtype=np.uint8))
    array([0. , 0.2, 1. ], dtype=float32)
    """

    def apply(self, x: Array) -> Array:
        y = x.astype(np.float32)
        if x.dtype == np.uint8:
            y /= np.float32(255)
        elif x.dtype.kind != "f":
            raise DtypeError(f"ToFloat: takes uint8 or floats, got {x.dtype}")
        return y


class Standardize(Transform):
    """y = (x - mean) / std, each feature with its own mean and standard deviation over the batch axis.

    `fit` takes the statistics, in float64, from the training set; the same numbers are then used for the
    test set. A feature that does not vary (std <= eps) is centred only, so that nothing is divided by zero.

    Args:
        eps: largest standard deviation that counts as none.

    Attributes:
        mean, std: float64 arrays of shape x.shape[1:]; None before `fit`.

    Raises:
        ArgumentError: use before `fit`, or `fit` of an empty batch.
        ShapeError: x has other features than those that were fitted.

    >>> x = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> standardize = Standardize().fit(x)
    >>> standardize(x)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> standardize.inverse(standardize(x))
    array([[1., 5.],
           [3., 5.]])
    """

    def __init__(self, eps: float = 1e-7) -> None:
        if not eps >= 0:
            raise ArgumentError(f"Standardize: eps must be at least 0, got {eps}")
        self.eps = eps
        self.mean: np.ndarray | None = None
        self.std: np.ndarray | None = None

    def fit(self, x: Any) -> Standardize:
        """Takes mean and standard deviation (dividing by N) of `x` over its first axis; returns self."""
        values = backend.to_numpy(x.array) if isinstance(x, Tensor) else np.asarray(x)
        if values.ndim == 0 or values.shape[0] == 0:
            raise ArgumentError(f"Standardize.fit: needs at least one example, got shape {values.shape}")
        n = values.shape[0]
        # Piece by piece: a float64 copy of all training images would take 380 MB.
        pieces = [values[start : start + 4096] for start in range(0, n, 4096)]
        self.mean = sum(piece.sum(axis=0, dtype=np.float64) for piece in pieces) / n
        variance = sum(np.square(piece - self.mean).sum(axis=0) for piece in pieces) / n
        self.std = np.sqrt(variance)
        return self

    def apply(self, x: Array) -> Array:
        mean, divisor = self._statistics(x)
        return (_floating(x) - mean) / divisor

    def inverse(self, y: Any) -> Any:
        """x from y: y * std + mean."""
        if isinstance(y, Tensor):
            return Tensor(self.inverse(y.array))
        mean, divisor = self._statistics(y)
        return _floating(y) * divisor + mean

    def _statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean and divisor as arrays of the library, device and dtype of x."""
        if self.mean is None or self.std is None:
            raise ArgumentError("Standardize: no statistics yet; call fit(training inputs) first")
        shape = self.mean.shape
        if x.shape[len(x.shape) - len(shape) :] != shape:
            raise ShapeError(f"Standardize: fitted to features of shape {shape}, got x of shape {x.shape}")
        divisor = np.where(self.std > self.eps, self.std, 1.0)
        return self._like(self.mean, x), self._like(divisor, x)

    def __repr__(self) -> str:
        return f"Standardize({'not fitted' if self.mean is None else f'features {self.mean.shape}'})"


class Normalize(Transform):
    """y = (x - mean) / std with a given mean and standard deviation for each channel of (..., C, H, W).

    Args:
        mean, std: one number, or one for each channel.

    Raises:
        ArgumentError: a std is not above 0, or mean and std differ in length.
        ShapeError: x has another number of channels.
        DtypeError: x holds integers; put ToFloat before.

    >>> Normalize(0.5, 0.5)(np.full((1, 1, 2), 0.75, dtype=np.float32))
    array([[[0.5, 0.5]]], dtype=float32)
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
        self.std = np.atleast_1d(np.asarray(std, dtype=np.float64))
        if self.mean.shape != self.std.shape or self.mean.ndim != 1:
            raise ArgumentError(f"Normalize: mean and std must have one length, got {mean} and {std}")
        if not (self.std > 0).all():
            raise ArgumentError(f"Normalize: std must be above 0, got {std}")

    def apply(self, x: Array) -> Array:
        if x.dtype.kind != "f":
            raise DtypeError(f"Normalize: takes floats, got {x.dtype}; put ToFloat() before it")
        channels = len(self.mean)
        if x.ndim < 3 or channels not in (1, x.shape[-3]):
            raise ShapeError(f"Normalize: made for {channels} channels, got x {x.shape}, not (..., C, H, W)")
        return (x - self._like(self.mean[:, None, None], x)) / self._like(self.std[:, None, None], x)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"


class Resize(Transform):
    """Pictures (..., H, W) in another size.

    Bilinear resizing is two matrix products, y = R x C^T: row i of R holds the weights with which input rows
    make output row i. The weights are a triangle around the output pixel's centre, one input pixel wide when
    enlarging, and wider in proportion when reducing, so that no input pixel is skipped (as in Pillow, and in
    PyTorch with antialias=True). "nearest" copies the pixel whose area holds that centre. Bytes stay bytes.

    Args:
        size: (height, width), or one number for the shorter side; the other keeps the proportions.
        mode: "bilinear" or "nearest".

    >>> Resize(4, mode="nearest")(np.array([[1, 2], [3, 4]], dtype=np.uint8))
    array([[1, 1, 2, 2],
           [1, 1, 2, 2],
           [3, 3, 4, 4],
           [3, 3, 4, 4]], dtype=uint8)
    """

    def __init__(self, size: int | Sequence[int], mode: str = "bilinear") -> None:
        try:
            sizes = tuple(size) if isinstance(size, Sequence) else (size,)
            self.size = tuple(operator.index(length) for length in sizes)
        except TypeError:
            raise ArgumentError(f"Resize: size must be an integer or (height, width), got {size!r}") from None
        if len(self.size) not in (1, 2) or min(self.size) < 1:
            raise ArgumentError(f"Resize: size must be at least 1 pixel in each direction, got {size!r}")
        if mode not in ("bilinear", "nearest"):
            raise ArgumentError(f"Resize: mode must be 'bilinear' or 'nearest', got {mode!r}")
        self.mode = mode

    def apply(self, x: Array) -> Array:
        if x.ndim < 2 or 0 in x.shape[-2:]:
            raise ShapeError(f"Resize: takes pictures (..., H, W), got shape {x.shape}")
        (h, w), (new_h, new_w) = x.shape[-2:], self._new_size(*x.shape[-2:])
        if self.mode == "nearest":
            rows, columns = self.constant(_nearest(h, new_h), x), self.constant(_nearest(w, new_w), x)
            return x.take(rows, -2).take(columns, -1)
        rows, columns = _triangle_weights(h, new_h), _triangle_weights(w, new_w).T
        y = self._like(rows, x) @ _floating(x) @ self._like(columns, x)
        return (y + 0.5).astype(np.uint8) if x.dtype == np.uint8 else y

    def _new_size(self, h: int, w: int) -> tuple[int, int]:
        if len(self.size) == 2:
            return self.size[0], self.size[1]
        (short,) = self.size
        return (short, max(short * w // h, 1)) if h <= w else (max(short * h // w, 1), short)

    def __repr__(self) -> str:
        return f"Resize({self.size if len(self.size) == 2 else self.size[0]}, mode={self.mode!r})"


class Lambda(Transform):
    """A function of your own as a transform.

    Args:
        function: from array to array.
        batched: whether it may be given a whole batch; if not, it gets one picture (C, H, W) at a time.

    >>> Lambda(lambda x: 1 - x)(np.array([0.25, 1.0]))
    array([0.75, 0.  ])
    """

    def __init__(self, function: Callable[[Any], Any], batched: bool = False) -> None:
        if not callable(function):
            raise ArgumentError(f"Lambda: takes a function, got {function!r}")
        self.function = function
        self.batched = batched

    def apply(self, x: Array) -> Array:
        return self.function(x)


class Compose(Transform):
    """Several transforms (or functions), one after the other.

    >>> Compose([ToFloat(), Lambda(lambda x: 1 - x)])(np.array([0, 255], dtype=np.uint8))
    array([1., 0.], dtype=float32)
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        for transform in transforms:
            if not callable(transform):
                raise ArgumentError(f"Compose: takes a list of transforms, got {transform!r} in it")
        self.transforms = list(transforms)
        self.batched = all(getattr(transform, "batched", False) for transform in transforms)

    def __call__(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


def _floating(x: Array) -> Array:
    """x itself if it holds floats, else as float32."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def _nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` pixels, which of `old` pixels lies under its centre."""
    return ((2 * np.arange(new) + 1) * old) // (2 * new)


def _triangle_weights(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that resizes a line of pixels; each row adds up to 1."""
    scale = old / new
    centre = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centre[:, None])
    weights = np.maximum(0, 1 - distance / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)
