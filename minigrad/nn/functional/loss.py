"""Losses: how far a prediction is from the truth, as one number.

    cross entropy   -ln softmax(x)[label]              mean squared error   (x - t)^2
    L1              |x - t|                            smooth L1     d^2 / (2 beta) near 0, else |d| - beta/2
    binary cross entropy of logits  -t ln s(x) - (1 - t) ln(1 - s(x)), s the sigmoid

Labels are checked before they reach an index: on a GPU a label outside the range would silently pick
another number. The check waits for the GPU, so a loader that has looked at all labels of its data set says
what range they have (`remember_range`), and its batches are not looked at again. The layers are in
`nn/loss.py`.
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Function
from minigrad.creation import arange
from minigrad.errors import ArgumentError, DeviceError, DtypeError, LabelError, ShapeError, describe
from minigrad.functions import where
from minigrad.nn.functional.activation import log_softmax, softplus
from minigrad.nn.functional.checks import check_same_dtype, check_tensor
from minigrad.tensor import Tensor
from minigrad.tensor_base import floating

__all__ = [
    "binary_cross_entropy_with_logits",
    "check_labels",
    "cross_entropy",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "smooth_l1_loss",
]


# 1. The operations of labels --------------------------------------------------------------------------


class Pick(Function):
    """y[n] = x[n, label[n]]; the gradient goes to that entry alone."""

    @staticmethod
    def forward(ctx, x, labels):
        ctx.classes = x.shape[1]
        ctx.save_for_backward(labels)
        return ctx.xp.take_along_axis(x, labels[:, None], axis=1)[:, 0]

    @staticmethod
    def backward(ctx, gy):
        (labels,) = ctx.saved_tensors
        chosen = ctx.xp.arange(ctx.classes) == labels[:, None]  # (N, classes)
        return chosen * gy[:, None], None


class SoftmaxCrossEntropy(Function):
    """y[n] = ln(sum of e^x[n]) - x[n, label[n]];  gx = gy (softmax(x) - 1 at the label)."""

    @staticmethod
    def forward(ctx, x, labels):
        shifted = x - x.max(axis=1, keepdims=True)  # (N, classes), at most 0: no e^x is too large
        ctx.softmax = ctx.xp.exp(shifted)
        total = ctx.softmax.sum(axis=1, keepdims=True)  # (N, 1)
        ctx.softmax /= total
        ctx.save_for_backward(labels)
        return ctx.xp.log(total[:, 0]) - shifted[ctx.xp.arange(len(x)), labels]

    @staticmethod
    def backward(ctx, gy):
        (labels,) = ctx.saved_tensors
        gx = ctx.softmax * gy[:, None]
        gx[ctx.xp.arange(len(gx)), labels] -= gy
        return gx, None


def check_labels(
    operation: str, labels: Tensor, classes: int, ignore_index: int | None = None
) -> tuple[int, int]:
    """Refuse labels that are no whole numbers from 0 to classes - 1.

    Returns:
        (low, high) between which all labels lie; (0, -1), an empty range, if there are none.
    """
    check_tensor(operation, "labels", labels)
    if labels.dtype.kind not in "iu":
        raise DtypeError(f"{operation}: labels must be integers (int64), got {labels.dtype}; use y.long()")
    if labels.numel() == 0:
        return 0, -1
    array = labels.array
    low, high = known_range(labels) or (int(array.min()), int(array.max()))
    if 0 <= low and high < classes:
        return low, high
    wrong = (array < 0) | (array >= classes)
    if ignore_index is not None:
        wrong = wrong & (array != ignore_index)
    if bool(wrong.any()):
        place = int(wrong.reshape(-1).argmax())
        value = int(array.reshape(-1)[place])
        raise LabelError(
            f"{operation}: label {value} at place {place} is out of range: "
            f"with {classes} classes labels go from 0 to {classes - 1}"
        )
    return low, high


def remember_range(labels: Tensor, low: int, high: int) -> Tensor:
    """Say of labels that all are from low to high, so that nobody has to ask their device; returns them.

    It holds for this very tensor, until something is written into it.
    """
    vars(labels)["_label_range"] = (labels.version[0], int(low), int(high))
    return labels


def known_range(labels: Tensor) -> tuple[int, int] | None:
    """(low, high) if it was said of these labels; None if they would have to be looked at.

    >>> import minigrad as mg
    >>> labels = remember_range(mg.tensor([2, 0]), 0, 9)
    >>> known_range(labels)
    (0, 9)
    >>> labels[0] = 77
    >>> known_range(labels) is None
    True
    """
    version, low, high = vars(labels).get("_label_range", (None, 0, 0))
    return (low, high) if version == labels.version[0] else None


def reduce(loss: Tensor, reduction: str) -> Tensor:
    """The mean, the sum, or every element."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ArgumentError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


# 2. Losses of class labels ----------------------------------------------------------------------------


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood: -input[n, target[n]], averaged.

    Args:
        input: log-probabilities (N, classes) or (N, classes, d1, ...).
        target: labels (N,) or (N, d1, ...), whole numbers.
        weight: one weight a class; the mean divides by the sum of the weights used.
        ignore_index: examples with this label count for nothing.
        reduction: "mean", "sum" or "none".

    Raises:
        LabelError: a label outside 0 .. classes - 1, named with its place.
    """
    _check_arguments("nll_loss", input, target, weight)
    return _nll("nll_loss", input, target, weight, ignore_index, reduction)


def _nll(
    operation: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    """nll_loss, with the name of the operation for its errors."""
    if input.ndim == 1 and target.numel() == 1:  # one example without a batch
        one = input.unsqueeze(0), target.reshape(1)
        return _nll(operation, *one, weight, ignore_index, reduction).reshape(
            target.shape if reduction == "none" else ()
        )
    low, high = _check_labels_fit(operation, input, target, weight, ignore_index)
    classes = input.shape[1]
    rows = input.permute(0, *range(2, input.ndim), 1).reshape(-1, classes) if input.ndim > 2 else input
    labels = target.reshape(-1).long().detach()
    if weight is None and not low <= ignore_index <= high:  # every label counts
        return reduce(-Pick.apply(rows, labels).reshape(target.shape), reduction)
    used = labels != ignore_index
    labels = labels.masked_fill(~used, 0)
    losses = -Pick.apply(rows, labels)  # (N...,)
    if weight is not None or ignore_index >= 0 or bool((~used).any()):
        share = used.to(input.dtype) if weight is None else weight.detach()[labels] * used.to(input.dtype)
        losses = losses * share
        if reduction == "mean":
            return _mean(losses.sum(), share.sum())
    return reduce(losses.reshape(target.shape), reduction)


def _check_labels_fit(
    operation: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[int, int]:
    """Refuse labels, or weights of classes, that do not belong to input (N, classes, ...); as `check_labels`."""
    if input.ndim < 2 or target.shape != (input.shape[0], *input.shape[2:]):
        raise ShapeError(
            describe(
                f"{operation}: input and target do not fit",
                [("input", input.shape, "N classes ..."), ("target", target.shape, "N ...")],
                _target_hint(input.shape, target.shape),
            )
        )
    if input.device != target.device:
        raise DeviceError(
            f"{operation}: input is on {input.device}, target on {target.device}; move one with .to()"
        )
    _check_weight(operation, input, weight, input.shape[1])
    return check_labels(operation, target, input.shape[1], ignore_index)


def _check_arguments(operation: str, input: Any, target: Any, weight: Any) -> None:
    """Refuse what is no Tensor, and scores and labels in the wrong order."""
    check_tensor(operation, "input", input)
    check_tensor(operation, "target", target)
    check_tensor(operation, "weight", weight, optional=True)
    if input.dtype.kind in "iu" and target.dtype.kind == "f":
        raise DtypeError(
            f"{operation}: input is {input.dtype} and target {target.dtype}: the arguments seem exchanged; "
            f"write {operation}(scores, labels)"
        )


def _target_hint(shape: tuple[int, ...], target: tuple[int, ...]) -> str:
    """How a target would fit to an input of `shape` (N, classes, ...)."""
    if len(shape) < 2:
        return "input needs the shape (N, classes); for one example that is (1, classes)"
    wanted = (shape[0], *shape[2:])
    if target == (shape[0], 1, *shape[2:]):
        return "target has a dimension of 1 too many: use target.squeeze(1)"
    if target == shape:
        return "target holds one label for each example, not one-hot rows: use target.argmax(1)"
    return f"target holds one label for each example: for this input the shape {wanted}"


def _check_weight(operation: str, input: Tensor, weight: Tensor | None, classes: int) -> None:
    if weight is not None and weight.shape != (classes,):
        raise ShapeError(f"{operation}: weight has shape {weight.shape}, expected ({classes},)")
    check_same_dtype(operation, input=input, weight=weight)


def _mean(loss: Tensor, weights: Tensor) -> Tensor:
    """loss / weights; over no example at all, weights = 0, it is NaN without a warning, with gradient 0."""
    nothing = weights == 0
    return where(nothing, float("nan"), loss / weights.masked_fill(nothing, 1.0))


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-ln softmax(input)[label], averaged over the examples.

    Args:
        input: unnormalised scores ("logits") (N, classes) or (N, classes, d1, ...).
        target: labels (N,) or (N, d1, ...), or probabilities of the shape of input.
        weight, ignore_index, reduction: as for `nll_loss`.
        label_smoothing: this share of the truth is spread evenly over all classes (Szegedy et al. 2016).

    Raises:
        LabelError: a label outside 0 .. classes - 1, named with its place.

    >>> import minigrad as mg
    >>> cross_entropy(mg.tensor([[0.0, 0.0]]), mg.tensor([1]))  # ln 2
    tensor(0.6931)
    """
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    _check_arguments("cross_entropy", input, target, weight)
    dim = 1 if input.ndim > 1 else 0
    if input.ndim == 0:
        raise ShapeError("cross_entropy: input must have shape (N, classes), got ()")
    _check_weight("cross_entropy", input, weight, input.shape[dim])
    if input.ndim == 2 and target.dtype.kind in "iu" and weight is None and label_smoothing == 0:
        low, high = _check_labels_fit("cross_entropy", input, target, None, ignore_index)
        if not low <= ignore_index <= high:  # the usual case, in one operation
            return reduce(SoftmaxCrossEntropy.apply(floating(input), target.detach().long()), reduction)
    log_p = log_softmax(input, dim)
    if target.shape == input.shape and target.dtype.kind == "f":
        if ignore_index >= 0:
            raise ArgumentError("cross_entropy: ignore_index needs labels, not probabilities")
        return _soft_cross_entropy(log_p, target, weight, reduction, label_smoothing, dim)
    likelihood = _nll("cross_entropy", log_p, target, weight, ignore_index, reduction)
    if label_smoothing == 0:
        return likelihood
    classes = input.shape[dim]
    even = log_p if weight is None else log_p * _along(weight, log_p, dim)
    spread = -even.sum(dim)  # (N, ...)
    used = (target != ignore_index).to(input.dtype)
    spread = spread * used
    if reduction == "mean":
        safe = target.masked_fill(target == ignore_index, 0)
        total = used.sum() if weight is None else (weight.detach()[safe] * used).sum()
        spread = _mean(spread.sum(), total)
    else:
        spread = reduce(spread, reduction)
    return (1 - label_smoothing) * likelihood + label_smoothing / classes * spread


def _along(weight: Tensor, like: Tensor, dim: int) -> Tensor:
    return weight.reshape([-1 if i == dim else 1 for i in range(like.ndim)])


def _soft_cross_entropy(
    log_p: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float, dim: int
) -> Tensor:
    """Cross entropy with probabilities as the truth: -sum over classes of target ln softmax."""
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / log_p.shape[dim]
    losses = -(log_p * target if weight is None else log_p * target * _along(weight, log_p, dim)).sum(dim)
    return reduce(losses, reduction)


def one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    """labels (...) -> (..., classes), int64: 1 at the label, 0 elsewhere."""
    check_tensor("one_hot", "labels", labels)
    classes = int(labels.max()) + 1 if num_classes == -1 else num_classes
    check_labels("one_hot", labels, classes)
    places = arange(classes, device=labels.device)
    return (labels.unsqueeze(-1) == places).long()


# 3. Losses of numbers ---------------------------------------------------------------------------------


def _same_shape(operation: str, x: Tensor, target: Tensor) -> None:
    check_tensor(operation, "input", x)
    check_tensor(operation, "target", target)
    if x.shape != target.shape:
        raise ShapeError(
            f"{operation}: input has shape {x.shape}, target {target.shape}; they must be equal "
            "(broadcasting here is nearly always a mistake): reshape one of them"
        )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)^2, averaged over all elements."""
    _same_shape("mse_loss", input, target)
    d = input - target
    return reduce(d * d, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|, averaged over all elements."""
    _same_shape("l1_loss", input, target)
    return reduce((input - target).abs(), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta/2, with d = input - target (Girshick 2015)."""
    _same_shape("smooth_l1_loss", input, target)
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must be at least 0, got {beta}")
    d = (input - target).abs()
    if beta == 0:
        return reduce(d, reduction)
    return reduce(where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta), reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-t ln s(x) - (1 - t) ln(1 - s(x)) with s the sigmoid, averaged over all elements.

    Since ln s(x) = -softplus(-x) and ln(1 - s(x)) = -x - softplus(-x), this is
    (1 - t) x + softplus(-x), which never overflows. `pos_weight` weighs the term with t.
    """
    _same_shape("binary_cross_entropy_with_logits", input, target)
    check_tensor("binary_cross_entropy_with_logits", "weight", weight, optional=True)
    check_tensor("binary_cross_entropy_with_logits", "pos_weight", pos_weight, optional=True)
    positive: Any = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
    losses = (1 - target) * input + positive * softplus(-input)
    return reduce(losses if weight is None else losses * weight, reduction)
