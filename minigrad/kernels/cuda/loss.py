"""Softmax cross entropy with its gradient, and the figures of an epoch; the formulas are in sources/loss.cu."""

from __future__ import annotations

from typing import NamedTuple

from minigrad.kernels.cuda import module
from minigrad.kernels.cuda.module import BLOCK, Alloc, Array, launch

__all__ = ["Rows", "cross_entropy", "finish_batch"]


class Rows(NamedTuple):
    """For each example of a batch."""

    losses: Array  # (N,)
    state: Array  # (N,) int32: 1 right, 0 not, -1 the label is no class
    gx: Array | None  # (N, classes): gradient of the mean loss


def cross_entropy(
    x: Array,
    labels: Array,
    scale: float | None = None,
    need_gradient: bool = True,
    out: Rows | None = None,
    alloc: Alloc | None = None,
) -> Rows:
    """Scores x (N, classes) and labels (N,) int64 -> losses, and the gradient of scale * sum; scale None: 1/N."""
    N, classes = x.shape
    if out is None:
        alloc = alloc or module.empty
        gx = alloc((N, classes), x.dtype) if need_gradient else None
        out = Rows(alloc((N,), x.dtype), alloc((N,), "int32"), gx)
    threads = 32 if classes <= 64 else BLOCK
    args = [x, labels, out.losses, out.state, out.gx, 1 / N if scale is None else scale, classes]
    launch("cross_entropy_rows", (N,), (threads,), args)
    return out


def finish_batch(
    rows: Rows,
    mean: Array | None = None,
    loss_sum: Array | None = None,
    counts: Array | None = None,
    counters: Array | None = None,
    scale: float | None = None,
) -> None:
    """Add up a batch's rows, in one order, into arrays on the device; each may be left out.

    mean = scale * sum of losses; loss_sum (1,) float64 += sum of losses; counts (3,) int64 += right answers,
    wrong labels, examples; counters (2,) int64 += 1, the batches of this epoch and all steps.

    With counters `mean` has a place for each batch of the epoch, and the one of this batch is written, so that a
    loss that is no number can be traced to its batch. Without them it is (1,).
    """
    N = rows.losses.shape[0]
    args = [rows.losses, rows.state, mean, loss_sum, counts, counters, 1 / N if scale is None else scale, N]
    launch("finish_batch", (1,), (BLOCK,), args)
