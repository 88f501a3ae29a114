"""The names of the tutorial's helper library, so that its chapters run after their import lines are changed.

    import minigrad as torch
    from minigrad import nn, d2l

    net = nn.Sequential(nn.Conv2d(1, 6, kernel_size=5), nn.BatchNorm2d(6), nn.Sigmoid(), ...)
    train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size=256)
    d2l.train_ch6(net, train_iter, test_iter, 10, 1.0, d2l.try_gpu())

The names and what they print are those of "Dive into Deep Learning" up to edition 0.17; the code is
minigrad's own. The training itself is in `training/loop.py`, the pictures are in `plot.py`; this joins them.

Reading order: data, devices, counting and timing, plots, training, short names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import backend, creation, functions, plot
from minigrad.backend import Device, cuda
from minigrad.data import DataLoader, Resize, TensorDataset, load
from minigrad.data.catalog import FASHION_MNIST
from minigrad.dtypes import float32, int32
from minigrad.errors import ArgumentError, ShapeError
from minigrad.grad_mode import no_grad
from minigrad.nn import init
from minigrad.nn.conv import Conv2d
from minigrad.nn.linear import Linear
from minigrad.nn.loss import CrossEntropyLoss
from minigrad.nn.module import Module
from minigrad.optim import SGD
from minigrad.tensor import Tensor
from minigrad.training.loop import EpochFigures, count_correct, evaluate, train_epoch

__all__ = [
    "Accumulator", "Animator", "Timer", "abs", "accuracy", "arange", "argmax", "astype", "concat", "cos",
    "evaluate_accuracy", "evaluate_accuracy_gpu", "exp", "eye", "float32", "get_dataloader_workers",
    "get_fashion_mnist_labels", "int32", "linreg", "linspace", "load_array", "load_data_fashion_mnist", "log",
    "matmul", "normal", "numpy", "ones", "rand", "reduce_mean", "reduce_sum", "reshape", "set_axes",
    "set_figsize", "sgd", "show_images", "sin", "size", "squared_loss", "stack", "tensor", "to", "train_ch6",
    "transpose", "try_all_gpus", "try_gpu", "use_svg_display", "zeros",
]  # fmt: skip


# 1. Data ---


def load_data_fashion_mnist(
    batch_size: int, resize: int | tuple[int, int] | None = None
) -> tuple[DataLoader, DataLoader]:
    """Loaders of Fashion-MNIST for training (shuffled) and test.

    Where Fashion-MNIST is not to be had, these are the garments drawn by code, and a printed line says so.

    Args:
        batch_size: examples in a batch.
        resize: new size of the pictures, in pixels.
    """
    data = load("auto")
    transform = None if resize is None else Resize(resize)
    return (
        DataLoader(data.train, batch_size, shuffle=True, transform=transform),
        DataLoader(data.test, batch_size, transform=transform),
    )


def load_array(data_arrays: Sequence[Any], batch_size: int, is_train: bool = True) -> DataLoader:
    """A loader over tensors with a common first axis, shuffled for training."""
    return DataLoader(TensorDataset(*data_arrays), batch_size, shuffle=is_train)


def get_dataloader_workers() -> int:
    """0: batches are gathered in one step, there are no worker processes."""
    return 0


def get_fashion_mnist_labels(labels: Iterable[Any]) -> list[str]:
    """The names of the classes, as the tutorial writes them.

    >>> get_fashion_mnist_labels([0, 9])
    ['t-shirt', 'ankle boot']
    """
    names = [name.lower().partition("/")[0] for name in FASHION_MNIST.classes]
    return [names[int(label)] for label in labels]


# 2. Devices ---


def try_gpu(i: int = 0) -> Device:
    """GPU number i if there is one, else the CPU."""
    return backend.device(f"cuda:{i}" if i < _gpus() else "cpu")


def try_all_gpus() -> list[Device]:
    """All GPUs, or [the CPU] if there is none."""
    return [backend.device(f"cuda:{i}") for i in range(_gpus())] or [backend.device("cpu")]


def _gpus() -> int:
    return cuda.device_count() if cuda.is_available() else 0


# 3. Counting and timing ---


class Accumulator:
    """n sums.

    >>> metric = Accumulator(2)
    >>> metric.add(1, 10); metric.add(2, 20)
    >>> metric[0], metric[1]
    (3.0, 30.0)
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        self.data = [total + float(value) for total, value in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        self.data = [0.0] * len(self.data)

    def __getitem__(self, index: int) -> float:
        return self.data[index]


class Timer:
    """A stopwatch that keeps its laps; it starts when it is made."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Ends a lap; its seconds."""
        self.times.append(time.perf_counter() - self._started)
        return self.times[-1]

    def avg(self) -> float:
        return self.sum() / len(self.times)

    def sum(self) -> float:
        return sum(self.times)

    def cumsum(self) -> list[float]:
        return np.cumsum(self.times).tolist()


def accuracy(y_hat: Tensor, y: Tensor) -> float:
    """The number of right predictions: y_hat is (N, classes) scores, or (N,) classes."""
    if y_hat.ndim > 1 and y_hat.shape[1] > 1:
        return float(count_correct(y_hat, y))
    if y_hat.shape != y.shape:
        raise ShapeError(f"accuracy: y_hat {y_hat.shape} and y {y.shape} do not fit together")
    return float((y_hat.detach().astype(y.dtype) == y).sum().item())


def evaluate_accuracy(net: Any, data_iter: Iterable[Any]) -> float:
    """The share of right predictions; a Module is put into evaluation mode for it."""
    if isinstance(net, Module):
        return evaluate(net, data_iter)
    metric = Accumulator(2)
    with no_grad():
        for X, y in data_iter:
            metric.add(accuracy(net(X), y), y.numel())
    return metric[0] / metric[1]


def evaluate_accuracy_gpu(net: Any, data_iter: Iterable[Any], device: Any = None) -> float:
    """The same on a device; default: that of the net's parameters."""
    if device is not None and isinstance(net, Module):
        net.to(device)
    return evaluate_accuracy(net, data_iter)


# 4. Plots ---


def use_svg_display() -> None:
    """Does nothing: the live plot is SVG anyway, and a notebook keeps the format that it has chosen."""


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """The size, in inches, of figures that pyplot makes from now on."""
    plot.pyplot().rcParams["figure.figsize"] = figsize


set_axes = plot.set_axes


def show_images(
    imgs: Sequence[Any], num_rows: int, num_cols: int, titles: Sequence[str] | None = None, scale: float = 1.5
) -> Any:
    """A page of pictures, made with pyplot; its axes, row by row."""
    _, axes = plot.pyplot().subplots(num_rows, num_cols, figsize=(num_cols * scale, num_rows * scale))
    flat = np.atleast_1d(axes).flatten()
    plot.images([_on_host(image) for image in imgs], list(flat), titles)
    return flat


def _on_host(image: Any) -> np.ndarray:
    return backend.to_numpy(image.array) if isinstance(image, Tensor) else np.asarray(image)


class Animator:
    """Curves that grow while training goes on. In a notebook they are shown live, elsewhere not at all.

    The figure is drawn anew once a second at most, and when the cell ends.

    Attributes:
        X, Y: the points so far, a list for each curve.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = (3.5, 2.5),
    ) -> None:
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self._fmts = fmts
        self._grid = (nrows, ncols)
        self._figsize = figsize
        self._style = (xlabel, ylabel, xlim, ylim, xscale, yscale, legend)
        self._figure: Any = None
        self._display = plot.NotebookDisplay(self._draw)

    def add(self, x: Any, y: Any) -> None:
        """One more point for each curve; None leaves a curve out. x may be one number for all."""
        ys = list(y) if hasattr(y, "__len__") else [y]
        xs = list(x) if hasattr(x, "__len__") else [x] * len(ys)
        while len(self.X) < len(ys):
            self.X.append([])
            self.Y.append([])
        for curve, (a, b) in enumerate(zip(xs, ys, strict=True)):
            if a is not None and b is not None:
                self.X[curve].append(float(a))
                self.Y[curve].append(float(b))
        self._display.changed()

    @property
    def fig(self) -> Any:
        """The matplotlib figure, with all points; also where nothing is shown live."""
        return self._draw()

    @property
    def axes(self) -> Any:
        """The axes of the figure, row by row."""
        return np.array(self._draw().axes)

    def flush(self) -> None:
        """Shows the last state now."""
        self._display.flush()

    def _draw(self) -> Any:
        if self._figure is None:
            self._figure = plot.new_figure(*self._figsize)
            self._figure.subplots(*self._grid)
        axes = self._figure.axes[0]
        axes.cla()
        for number, (x, y) in enumerate(zip(self.X, self.Y, strict=True)):
            axes.plot(x, y, self._fmts[number % len(self._fmts)])
        set_axes(axes, *self._style)
        return self._figure


# 5. Training ---


def sgd(params: Iterable[Tensor], lr: float, batch_size: int) -> None:
    """One step p = p - lr * p.grad / batch_size for each parameter; then the gradients are zero again."""
    with no_grad():
        for param in params:
            param -= lr * param.grad / batch_size  # in place: the tensor stays the same
            param.grad.zero_()


def squared_loss(y_hat: Tensor, y: Tensor) -> Tensor:
    """(y_hat - y)^2 / 2, element by element."""
    return (y_hat - y.reshape(y_hat.shape)) ** 2 / 2


def linreg(X: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """X w + b."""
    return X @ w + b


def train_ch6(
    net: Module, train_iter: Any, test_iter: Any, num_epochs: int, lr: float, device: Any = None
) -> None:
    """Trains a network as chapter 6 does: Xavier weights, plain SGD, cross-entropy, a live plot.

    Args:
        device: default: `try_gpu()`.
    """
    if num_epochs < 1:
        raise ArgumentError(f"train_ch6: num_epochs must be at least 1, got {num_epochs}")
    device = try_gpu() if device is None else backend.device(device)
    net.apply(_xavier)
    print("training on", device)
    net.to(device)
    optimizer = SGD(net.parameters(), lr=lr)
    legend = ["train loss", "train acc", "test acc"]
    animator = Animator(xlabel="epoch", xlim=[1, num_epochs], legend=legend)
    batches = len(train_iter)
    examples, seconds, test_acc = 0, 0.0, 0.0
    for epoch in range(num_epochs):

        def plot_five_times(number: int, figures: EpochFigures, epoch: int = epoch) -> None:
            if number % max(batches // 5, 1) == 0 or number == batches:
                animator.add(epoch + number / batches, (figures.loss, figures.accuracy, None))

        figures = train_epoch(
            net, train_iter, optimizer, CrossEntropyLoss(), epoch=epoch + 1, on_batch=plot_five_times
        )
        test_acc = evaluate(net, test_iter)
        animator.add(epoch + 1, (None, None, test_acc))
        examples += figures.examples
        seconds += figures.seconds
    animator.flush()
    print(f"loss {figures.loss:.3f}, train acc {figures.accuracy:.3f}, test acc {test_acc:.3f}")
    print(f"{examples / seconds:.1f} examples/sec on {device}")


def _xavier(layer: Module) -> None:
    if isinstance(layer, (Linear, Conv2d)):
        init.xavier_uniform_(layer.weight)


# 6. Short names ---

ones, zeros, tensor, arange, linspace = (
    creation.ones,
    creation.zeros,
    creation.tensor,
    creation.arange,
    creation.linspace,
)
rand, normal, eye = creation.rand, creation.normal, creation.eye
sin, cos, exp, log, abs = functions.sin, functions.cos, functions.exp, functions.log, functions.abs
matmul, concat, stack = functions.matmul, functions.cat, functions.stack


def _method(name: str) -> Callable[..., Any]:
    def call(x: Any, *args: Any, **options: Any) -> Any:
        return getattr(x, name)(*args, **options)

    call.__name__, call.__doc__ = name, f"x.{name}(...)"
    return call


reshape, to, reduce_sum, argmax = _method("reshape"), _method("to"), _method("sum"), _method("argmax")
astype, transpose, reduce_mean = _method("type"), _method("t"), _method("mean")


def numpy(x: Tensor) -> np.ndarray:
    """The NumPy array of a tensor, out of the graph."""
    return x.detach().cpu().numpy()


def size(x: Tensor) -> int:
    """The number of elements."""
    return x.numel()


def __getattr__(name: str) -> Any:
    """`d2l.plt` is matplotlib.pyplot, imported when it is first used."""
    if name == "plt":
        return plot.pyplot()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
