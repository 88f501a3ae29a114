"""Starting values of weights. Each function writes into a tensor and returns it.

    init.xavier_uniform_(layer.weight)

A layer y = x W' with fan_in inputs has Var(y) = fan_in Var(W) Var(x); on the way back the variance of the
gradient is multiplied by fan_out Var(W). The schemes choose Var(W) so that neither grows nor shrinks from
layer to layer: Xavier takes the mean of both conditions, Kaiming one of them, with a gain for the activation.

Numbers are drawn on the host, in float64, from minigrad's generator or the `generator` that is given; so
one seed gives the same weights on every device. Names and arguments are PyTorch's.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad import backend
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.grad_mode import no_grad
from minigrad.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "fans",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


# 1. Fans and gains -----------------------------------------------------------------------------------------


def fans(tensor: Tensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight: Linear (out, in), Conv2d (O, C/groups, K, K).

    fan_in is the number of inputs that one output looks at, fan_out the number of outputs that one input
    reaches (for a convolution away from the border, with stride 1 and one group).

    >>> import minigrad as mg
    >>> fans(mg.zeros(16, 6, 5, 5))
    (150, 400)
    """
    if tensor.ndim < 2:
        raise ShapeError(
            f"init: fan_in and fan_out need a weight of at least 2 dimensions, got shape {tensor.shape}; "
            "initialise biases with zeros_ or uniform_"
        )
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights have to be larger because of the activation that follows, as PyTorch has it.

    linear, convolution, sigmoid: 1; tanh: 5/3; relu: sqrt(2); leaky_relu: sqrt(2 / (1 + slope^2)), where
    `param` is the slope, 0.01 if left out; selu: 3/4.

    >>> round(calculate_gain("relu") ** 2, 6)
    2.0
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ArgumentError(f"calculate_gain: the slope of leaky_relu must be a number, got {slope!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}; there are "
            f"{', '.join(sorted([*_GAINS, 'leaky_relu']))}"
        )
    return _GAINS[nonlinearity]


# 2. Plain values and distributions -------------------------------------------------------------------------


def _write(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Copy host values into the tensor, whatever its device, dtype and memory order."""
    with no_grad():
        return tensor.copy_(values)


def _check(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise DtypeError(f"init.{name}: expected a tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise DtypeError(f"init.{name}: expected floating-point numbers, this tensor is {tensor.dtype}")


def _source(generator: np.random.Generator | None) -> np.random.Generator:
    return backend.random.generator() if generator is None else generator


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Uniform between a and b.

    >>> import minigrad as mg
    >>> w = uniform_(mg.zeros(100), -0.5, 0.5)
    >>> bool((w.abs() <= 0.5).all())
    True
    """
    _check("uniform_", tensor)
    if not a <= b:
        raise ArgumentError(f"init.uniform_: a must be at most b, got a={a}, b={b}")
    return _write(tensor, _source(generator).uniform(a, b, tensor.shape))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Normal with the given mean and standard deviation."""
    _check("normal_", tensor)
    if not std >= 0:
        raise ArgumentError(f"init.normal_: std must be at least 0, got {std}")
    return _write(tensor, _source(generator).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Normal, with what falls outside a ... b drawn again; a and b are values, not multiples of std."""
    _check("trunc_normal_", tensor)
    if not (std > 0 and a < b):
        raise ArgumentError(
            f"init.trunc_normal_: needs std above 0 and a below b, got std={std}, a={a}, b={b}"
        )
    inside = _normal_cdf((b - mean) / std) - _normal_cdf((a - mean) / std)
    if inside < 0.01:  # drawing again would take forever
        raise ArgumentError(
            f"init.trunc_normal_: only {inside:.2g} of a normal with mean {mean} and std {std} lies "
            f"between {a} and {b}"
        )
    draw = _source(generator)
    values = draw.normal(mean, std, tensor.shape).reshape(-1)
    while True:
        outside = np.flatnonzero((values < a) | (values > b))
        if outside.size == 0:
            return _write(tensor, values.reshape(tensor.shape))
        values[outside] = draw.normal(mean, std, outside.size)


def _normal_cdf(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same value everywhere."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros everywhere."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity: a Linear layer passes on as many inputs as it can."""
    if tensor.ndim != 2:
        raise ShapeError(f"init.eye_: needs a matrix, got shape {tensor.shape}")
    return _write(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


# 3. The named schemes --------------------------------------------------------------------------------------


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)).

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.

    >>> import minigrad as mg
    >>> w = xavier_uniform_(mg.zeros(100, 50))
    >>> bool((w.abs() <= (6 / 150) ** 0.5).all())
    True
    """
    bound = gain * math.sqrt(6.0 / max(1, sum(fans(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Normal with variance gain^2 2 / (fan_in + fan_out).

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 12.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, sum(fans(tensor)))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Uniform in +-gain sqrt(3 / fan), which has the variance of `kaiming_normal_`.

    Args:
        tensor: the weight.
        a: slope of the leaky ReLU that follows; 0 is the ReLU.
        mode: "fan_in" keeps the size of the values on the way forward, "fan_out" that of the gradients.
        nonlinearity: the activation that follows, see `calculate_gain`.
        generator: where the numbers are drawn from.

    K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, equations 10 and 14.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Normal with variance gain^2 / fan; arguments as for `kaiming_uniform_`.

    K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, equations 10 and 14.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"init: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = fans(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan_in if mode == "fan_in" else fan_out))


def orthogonal_(tensor: Tensor, gain: float = 1, generator: np.random.Generator | None = None) -> Tensor:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer.

    A weight of more dimensions is taken as a matrix (first dimension, all others). The matrix is the Q of
    a normal random matrix; with the signs of R's diagonal it is uniform among all such matrices.

    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

    >>> import minigrad as mg
    >>> w = orthogonal_(mg.zeros(3, 5))
    >>> mg.allclose(w @ w.T, mg.eye(3), atol=1e-6)
    True
    """
    _check("orthogonal_", tensor)
    if tensor.ndim < 2:
        raise ShapeError(f"init.orthogonal_: needs at least 2 dimensions, got shape {tensor.shape}")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    q, r = np.linalg.qr(_source(generator).standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return _write(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))
