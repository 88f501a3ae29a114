"""What the operations should give, computed the slow and obvious way: loops over Python numbers, in float64.

Nothing here imports minigrad or PyTorch, so a mistake in either cannot hide. Each oracle follows the
definition in the paper or textbook named in its docstring, not the way in which minigrad computes it.
Letters as in docs/notation.md: N C H W O K L P Q, M values a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

Pair = tuple[int, int]
Array = np.ndarray


def both(value: Any) -> Pair:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


# 1. Windows ----------------------------------------------------------------------------------------------


def windows_along(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows fit, counted one by one.

    A window has to end inside the padded picture. With ceil_mode one more may stick out at the end, if it
    starts inside the picture or in the padding before it.
    """
    count = 0
    while count * stride + dilation * (kernel - 1) < size + 2 * padding:
        count += 1
    reached = (count - 1) * stride + dilation * (kernel - 1) + 1
    if ceil_mode and count and reached < size + 2 * padding and count * stride < size + padding:
        count += 1
    return count


def window(
    place: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> list[tuple[int, int, int, int]]:
    """(i, j, h, w) for each tap (i, j) of a window in row-major order; (h, w) may lie outside the picture."""
    return [
        (
            i,
            j,
            place[0] * stride[0] - padding[0] + i * dilation[0],
            place[1] * stride[1] - padding[1] + j * dilation[1],
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


# 2. Convolution and pooling ------------------------------------------------------------------------------


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlation: y[n,o,p,q] = b[o] + sum W[o,c,i,j] x[n, c + first channel of the group, h, w]."""
    stride, dilation = both(stride), both(dilation)
    N, _, H, W = x.shape
    O, per_group, K, L = weight.shape
    above, left = both(0 if padding in ("valid", "same") else padding)
    below, right = above, left
    if padding == "same":  # as many zeros as give back H and W; an odd one goes below and to the right
        total = dilation[0] * (K - 1), dilation[1] * (L - 1)
        above, left = total[0] // 2, total[1] // 2
        below, right = total[0] - above, total[1] - left
    framed = np.zeros((N, x.shape[1], H + above + below, W + left + right))
    framed[:, :, above : above + H, left : left + W] = x
    P = windows_along(framed.shape[2], K, stride[0], 0, dilation[0], False)
    Q = windows_along(framed.shape[3], L, stride[1], 0, dilation[1], False)
    y = np.zeros((N, O, P, Q))
    for n, o, p, q in product(range(N), range(O), range(P), range(Q)):
        first = o // (O // groups) * per_group
        total = 0.0 if bias is None else float(bias[o])
        for i, j, h, w in window((p, q), (K, L), stride, (0, 0), dilation):
            for c in range(per_group):
                total += float(weight[o, c, i, j]) * float(framed[n, first + c, h, w])
        y[n, o, p, q] = total
    return y


def pool2d(
    choose: Callable[[list[float], int], float],
    x: Array,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> Array:
    """`choose(values of the window inside x, number of its taps inside x or its padding)` for each window."""
    kernel, padding, dilation = both(kernel), both(padding), both(dilation)
    stride = kernel if stride is None else both(stride)
    N, C, H, W = x.shape
    P, Q = (
        windows_along(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip((H, W), kernel, stride, padding, dilation, strict=True)
    )
    y = np.zeros((N, C, P, Q))
    for n, c, p, q in product(range(N), range(C), range(P), range(Q)):
        places = window((p, q), kernel, stride, padding, dilation)
        inside = [float(x[n, c, h, w]) for _, _, h, w in places if 0 <= h < H and 0 <= w < W]
        framed = sum(h < H + padding[0] and w < W + padding[1] for _, _, h, w in places)
        y[n, c, p, q] = choose(inside, framed)
    return y


def max_pool2d(
    x: Array, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Array:
    return pool2d(lambda inside, _: max(inside), x, kernel, stride, padding, dilation, ceil_mode)


def max_pool2d_indices(
    x: Array, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Array:
    """Where each maximum lies, as h * W + w; among equals the first in row-major order."""
    numbers = np.arange(x.shape[2] * x.shape[3], dtype=float).reshape(1, 1, *x.shape[2:])
    y = np.zeros_like(max_pool2d(x, kernel, stride, padding, dilation, ceil_mode))
    for n, c in product(range(x.shape[0]), range(x.shape[1])):
        picture = x[n, c].reshape(-1)

        def first_of_the_largest(places: list[float], _: int, picture: Array = picture) -> float:
            best = places[0]
            for place in places:
                if picture[int(place)] > picture[int(best)]:
                    best = place
            return best

        y[n, c] = pool2d(first_of_the_largest, numbers, kernel, stride, padding, dilation, ceil_mode)[0, 0]
    return y.astype(np.int64)


def max_pool2d_gradient(x: Array, gy: Array, *args: Any, **options: Any) -> Array:
    """Each gy goes to the place where its maximum was found; a place found twice gets the sum."""
    gx = np.zeros((*x.shape[:2], x.shape[2] * x.shape[3]))
    indices = max_pool2d_indices(x, *args, **options)
    for n, c, p, q in np.ndindex(*gy.shape):
        gx[n, c, indices[n, c, p, q]] += gy[n, c, p, q]
    return gx.reshape(x.shape)


def avg_pool2d(
    x: Array,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    def mean(inside: list[float], framed: int) -> float:
        divisor = divisor_override or (framed if count_include_pad else len(inside))
        return sum(inside) / divisor

    return pool2d(mean, x, kernel, stride, padding, 1, ceil_mode)


def adaptive_avg_pool2d(x: Array, output_size: Any) -> Array:
    """Window p of P covers the rows from floor(p H / P) to ceil((p + 1) H / P)."""
    N, C, H, W = x.shape
    P, Q = (size if n is None else n for n, size in zip(both(output_size), (H, W), strict=True))
    y = np.zeros((N, C, P, Q))
    for n, c, p, q in np.ndindex(*y.shape):
        rows = range(math.floor(p * H / P), math.ceil((p + 1) * H / P))
        columns = range(math.floor(q * W / Q), math.ceil((q + 1) * W / Q))
        values = [float(x[n, c, h, w]) for h in rows for w in columns]
        y[n, c, p, q] = sum(values) / len(values)
    return y


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    rows = x.reshape(-1, x.shape[-1]) if x.size else np.zeros((0, x.shape[-1]))
    y = np.zeros((len(rows), len(weight)))
    for n, o in np.ndindex(*y.shape):
        y[n, o] = sum(float(a) * float(b) for a, b in zip(rows[n], weight[o], strict=True))
        y[n, o] += 0.0 if bias is None else float(bias[o])
    return y.reshape(*x.shape[:-1], len(weight))


# 3. Normalisation ----------------------------------------------------------------------------------------


def normalised(values: list[float], eps: float) -> tuple[list[float], float, float]:
    """(x - mean) / sqrt(var + eps), the mean, and the variance divided by M; sums without rounding errors."""
    M = len(values)
    mean = math.fsum(values) / M
    var = math.fsum((v - mean) ** 2 for v in values) / M
    return [(v - mean) / math.sqrt(var + eps) for v in values], mean, var


def batch_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Ioffe and Szegedy 2015, Algorithm 1, channel by channel: y, mean, variance (divided by M)."""
    y = np.zeros(x.shape)
    means, variances = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        channel = x[:, c].astype(np.float64)
        xhat, means[c], variances[c] = normalised(channel.reshape(-1).tolist(), eps)
        scale = 1.0 if gamma is None else float(gamma[c])
        shift = 0.0 if beta is None else float(beta[c])
        y[:, c] = np.array([scale * v + shift for v in xhat]).reshape(channel.shape)
    return y, means, variances


def batch_norm_gradient(x: Array, gamma: Array, gy: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """gx, ggamma, gbeta by the chain rule, a line for each one in Ioffe and Szegedy 2015, section 3."""
    gx, ggamma, gbeta = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values, gys = x[:, c].astype(np.float64).reshape(-1), gy[:, c].astype(np.float64).reshape(-1)
        M = len(values)
        xhat, mean, var = normalised(values.tolist(), eps)
        gxhat = gys * float(gamma[c])
        gvar = (gxhat * (values - mean)).sum() * -0.5 * (var + eps) ** -1.5
        gmean = -gxhat.sum() / math.sqrt(var + eps) + gvar * (-2 * (values - mean)).sum() / M
        channel = gxhat / math.sqrt(var + eps) + gvar * 2 * (values - mean) / M + gmean / M
        gx[:, c] = channel.reshape(gx[:, c].shape)
        ggamma[c], gbeta[c] = (gys * np.array(xhat)).sum(), gys.sum()
    return gx, ggamma, gbeta


def batch_norm_eval(
    x: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float = 1e-5
) -> Array:
    y = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        c = index[1]
        xhat = (float(x[index]) - float(mean[c])) / math.sqrt(float(var[c]) + eps)
        y[index] = xhat * (1.0 if gamma is None else float(gamma[c])) + (
            0.0 if beta is None else float(beta[c])
        )
    return y


def layer_norm(x: Array, ndim: int, eps: float = 1e-5) -> Array:
    """Each example by itself, over its last `ndim` dimensions."""
    rows = x.reshape(-1, int(np.prod(x.shape[-ndim:])))
    return np.array([normalised(row.tolist(), eps)[0] for row in rows]).reshape(x.shape)


def group_norm(x: Array, groups: int, eps: float = 1e-5) -> Array:
    """Each example and each group of neighbouring channels by itself."""
    y = np.zeros(x.shape)
    size = x.shape[1] // groups
    for n, g in product(range(x.shape[0]), range(groups)):
        block = x[n, g * size : (g + 1) * size]
        y[n, g * size : (g + 1) * size] = np.array(normalised(block.reshape(-1).tolist(), eps)[0]).reshape(
            block.shape
        )
    return y


# 4. Activations and losses -------------------------------------------------------------------------------


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v)) if v > -700 else math.exp(v)


def softplus(v: float) -> float:
    return v + math.log1p(math.exp(-v)) if v > 0 else math.log1p(math.exp(v))


def gelu(v: float) -> float:
    """x Phi(x); erfc has no cancellation where Phi is small."""
    return v * 0.5 * math.erfc(-v / math.sqrt(2))


def gelu_tanh(v: float) -> float:
    return 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))


def elementwise(f: Callable[[float], float], x: Array) -> Array:
    return np.array([f(float(v)) for v in x.reshape(-1)], dtype=np.float64).reshape(x.shape)


def log_softmax(row: list[float]) -> list[float]:
    """x_i - ln sum e^x_j, with the largest term taken out of the sum."""
    top = max(row)
    rest = math.log(math.fsum(math.exp(v - top) for v in row))
    return [(v - top) - rest for v in row]


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """x (N, classes), labels (N,): the loss of each example is a sum over all classes of -truth * ln p.

    The truth of an example is 1 - s at its label plus s / classes everywhere (s: label smoothing), each
    class weighed. The mean divides by the weights of the labels.
    """
    classes = x.shape[1]
    w = [1.0] * classes if weight is None else [float(v) for v in weight]
    losses, weights = [], []
    for row, label in zip(x, target, strict=True):
        if label == ignore_index:
            losses.append(0.0)
            weights.append(0.0)
            continue
        log_p = log_softmax([float(v) for v in row])
        truth = [(1 - label_smoothing) * (c == label) + label_smoothing / classes for c in range(classes)]
        losses.append(-sum(t * wc * lp for t, wc, lp in zip(truth, w, log_p, strict=True)))
        weights.append(w[int(label)])
    if reduction == "none":
        return np.array(losses)
    return np.array(sum(losses) / (sum(weights) if reduction == "mean" else 1.0))
