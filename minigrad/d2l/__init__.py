"""The names of the tutorial's helper library, so that its chapters run after their import lines are changed.

    import minigrad as torch
    from minigrad import nn, d2l

    net = nn.Sequential(nn.Conv2d(1, 6, kernel_size=5), nn.BatchNorm2d(6), nn.Sigmoid(), ...)
    train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size=256)
    d2l.train_ch6(net, train_iter, test_iter, 10, 1.0, d2l.try_gpu())

The names and what they print are those of "Dive into Deep Learning" up to edition 0.17; the code is
minigrad's own. Here are the helpers of its chapters 2 to 7, from the preliminaries to the modern convolutional
networks, but for two: the downloads of the section on house prices (`download`, `DATA_HUB`), and the block of
the section on residual networks (`Residual`). Helpers of later chapters are not here, and asking for one says
so.

The training itself is in `training/loop.py`, the pictures are in `plot.py`; this joins them.

Reading order: `scores.py`, `figures.py`; then here data, devices, training, short names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import backend, creation, functions
from minigrad import plot as pictures
from minigrad.backend import Device, cuda
from minigrad.d2l.figures import Animator, plot, set_axes, set_figsize, show_images, use_svg_display
from minigrad.d2l.scores import (
    Accumulator,
    Timer,
    accuracy,
    evaluate_accuracy,
    evaluate_accuracy_gpu,
    evaluate_loss,
)
from minigrad.data import DataLoader, Resize, TensorDataset, load
from minigrad.data.catalog import FASHION_MNIST
from minigrad.dtypes import float32, int32
from minigrad.errors import ArgumentError
from minigrad.grad_mode import no_grad
from minigrad.models import init_xavier
from minigrad.nn import functional as F
from minigrad.nn.loss import CrossEntropyLoss
from minigrad.nn.module import Module
from minigrad.optim import SGD, Optimizer
from minigrad.tensor import Tensor
from minigrad.training.loop import EpochFigures, evaluate, train_epoch

__all__ = [
    "Accumulator", "Animator", "Timer", "abs", "accuracy", "arange", "argmax", "astype", "concat",
    "corr2d", "cos", "evaluate_accuracy", "evaluate_accuracy_gpu", "evaluate_loss", "exp", "eye",
    "float32", "get_dataloader_workers", "get_fashion_mnist_labels", "int32", "linreg", "linspace",
    "load_array", "load_data_fashion_mnist", "log", "matmul", "normal", "numpy", "ones", "plot",
    "predict_ch3", "rand", "reduce_mean", "reduce_sum", "reshape", "set_axes", "set_figsize", "sgd",
    "show_images", "sin", "size", "squared_loss", "stack", "synthetic_data", "tensor", "to", "train_ch3",
    "train_ch6", "train_epoch_ch3", "transpose", "try_all_gpus", "try_gpu", "use_svg_display", "zeros",
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


def synthetic_data(w: Tensor, b: float | Tensor, num_examples: int) -> tuple[Tensor, Tensor]:
    """Examples for linear regression: X (N, len(w)) standard normal, y = X w + b + noise, (N, 1).

    The noise is normal with a standard deviation of 0.01.
    """
    X = creation.randn(num_examples, len(w))
    y = (X @ w.reshape(-1, 1)).reshape(-1) + b
    return X, (y + 0.01 * creation.randn(num_examples)).reshape(-1, 1)


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


# 3. Training ---


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


def train_epoch_ch3(net: Any, train_iter: Iterable[Any], loss: Any, updater: Any) -> tuple[float, float]:
    """One epoch as in chapter 3; its mean loss and accuracy.

    Args:
        net: a Module, or any function of a batch.
        loss: gives one number for each example, or their mean if the updater is an Optimizer.
        updater: an Optimizer; or a function of the batch size that takes the step and zeroes the gradients,
            such as `lambda batch_size: d2l.sgd([W, b], lr, batch_size)`, with gradients of the sum.
    """
    if isinstance(net, Module):
        net.train()
    metric = Accumulator(3)
    for X, y in train_iter:
        y_hat = net(X)
        values = loss(y_hat, y)
        if isinstance(updater, Optimizer):
            updater.zero_grad()
            values.mean().backward()
            updater.step()
        else:
            values.sum().backward()
            updater(X.shape[0])
        metric.add(values.mean().item() * y.numel(), accuracy(y_hat, y), y.numel())
    return metric[0] / metric[2], metric[1] / metric[2]


def train_ch3(net: Any, train_iter: Any, test_iter: Any, loss: Any, num_epochs: int, updater: Any) -> None:
    """Trains as chapter 3 does, with a live plot; the arguments are those of `train_epoch_ch3`."""
    legend = ["train loss", "train acc", "test acc"]
    animator = Animator(xlabel="epoch", xlim=[1, num_epochs], ylim=[0.3, 0.9], legend=legend)
    for epoch in range(num_epochs):
        figures = train_epoch_ch3(net, train_iter, loss, updater)
        animator.add(epoch + 1, (*figures, evaluate_accuracy(net, test_iter)))
    animator.flush()


def predict_ch3(net: Any, test_iter: Iterable[Any], n: int = 6) -> None:
    """Shows the first n test pictures with their classes, the right one above the predicted one."""
    X, y = next(iter(test_iter))
    with no_grad():
        predicted = net(X).argmax(dim=1)
    both = zip(get_fashion_mnist_labels(y), get_fashion_mnist_labels(predicted), strict=True)
    titles = [f"{right}\n{guess}" for right, guess in both]
    n = min(n, len(titles))
    show_images(X[:n].reshape(n, *X.shape[-2:]), 1, n, titles=titles[:n])


def corr2d(X: Tensor, K: Tensor) -> Tensor:
    """Cross-correlation of a matrix X with a kernel K, both of two axes.

    >>> corr2d(arange(9.0).reshape(3, 3), arange(4.0).reshape(2, 2))
    tensor([[19., 25.],
            [37., 43.]])
    """
    return F.conv2d(X.reshape(1, 1, *X.shape), K.reshape(1, 1, *K.shape))[0, 0]


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
    init_xavier(net)
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


# 4. Short names ---

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
        return pictures.pyplot()
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has the helpers of the tutorial's chapters 2 to 7, "
        "without the downloads (4.10) and Residual (7.6)"
    )
