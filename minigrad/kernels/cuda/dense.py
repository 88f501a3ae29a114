"""Linear layers on the device: the product and its two gradients; the formulas are in sources/products.cu.

x (N, in), weight (out, in), z and gz (N, out), all contiguous. cuBLAS is not used: CuPy refuses it while a CUDA
graph is captured.
"""

from __future__ import annotations

from minigrad.kernels.cuda import module
from minigrad.kernels.cuda.module import ACTIVATIONS, Alloc, Array, launch_tiled

__all__ = ["grad_input", "grad_weight", "multiply"]


def multiply(
    x: Array,
    weight: Array,
    bias: Array | None,
    activation: str = "identity",
    out: Array | None = None,
    partial: Array | None = None,
    alloc: Alloc | None = None,
) -> Array:
    """act(x weight^T + bias) (N, out); with `partial` (pieces, out, 3) also the moments of each feature."""
    N, I = x.shape
    O = weight.shape[0]
    z = (alloc or module.empty)((N, O), x.dtype) if out is None else out
    launch_tiled("linear_forward", O, N, [x, weight, bias, z, partial, ACTIVATIONS[activation], N, I, O])
    return z


def grad_weight(
    x: Array, gz: Array, out: Array | None = None, bias_out: Array | None = None, alloc: Alloc | None = None
) -> Array:
    """(out, in); the gradient of the bias, the sum of gz over the batch, goes to `bias_out` if it is given."""
    N, I = x.shape
    O = gz.shape[1]
    gw = (alloc or module.empty)((O, I), x.dtype) if out is None else out
    columns = I if bias_out is None else I + 1
    launch_tiled("linear_grad_weight", O, columns, [x, gz, gw, bias_out, N, I, O])
    return gw


def grad_input(gz: Array, weight: Array, out: Array | None = None, alloc: Alloc | None = None) -> Array:
    """(N, in)."""
    (N, O), I = gz.shape, weight.shape[1]
    gx = (alloc or module.empty)((N, I), gz.dtype) if out is None else out
    launch_tiled("linear_grad_input", N, I, [gz, weight, gx, N, I, O])
    return gx
