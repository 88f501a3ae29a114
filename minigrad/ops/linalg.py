"""Products of matrices: `a @ b` with NumPy's rules for batches and vectors, and einsum."""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Function
from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops.broadcast import sum_to
from minigrad.shapes import broadcast_shapes

__all__ = ["Einsum", "MatMul", "parse_einsum"]


class MatMul(Function):
    """y = a @ b: (..., n, k) @ (..., k, m) -> (..., n, m); ga = gy b', gb = a' gy.

    A vector counts as a row on the left and as a column on the right, and its dimension is dropped
    from the result.
    """

    @staticmethod
    def forward(ctx, a, b):
        if a.ndim == 0 or b.ndim == 0:
            raise ShapeError(f"matmul: both operands need at least 1 dimension, got {a.shape} and {b.shape}")
        if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            place, size = ("second last", b.shape[-2]) if b.ndim > 1 else ("only", b.shape[0])
            raise ShapeError(
                f"matmul: {a.shape} @ {b.shape} does not fit: the last dimension of the first, "
                f"{a.shape[-1]}, must equal the {place} one of the second, {size}"
            )
        broadcast_shapes("matmul: batch", a.shape[:-2], b.shape[:-2])
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, gy):
        a, b = ctx.saved_tensors
        rows = a[None, :] if a.ndim == 1 else a  # (..., n, k)
        columns = b[:, None] if b.ndim == 1 else b  # (..., k, m)
        if a.ndim == 1:
            gy = gy[..., None, :] if b.ndim > 1 else gy[..., None]
        if b.ndim == 1:
            gy = gy[..., None]  # (..., n, m)
        ga = gb = None
        if ctx.needs_input_grad[0]:
            ga = sum_to(gy @ columns.swapaxes(-1, -2), rows.shape).reshape(a.shape)
        if ctx.needs_input_grad[1]:
            gb = sum_to(rows.swapaxes(-1, -2) @ gy, columns.shape).reshape(b.shape)
        return ga, gb


def parse_einsum(equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str, dict[str, int]]:
    """The index letters of each operand and of the result, and the size of each letter.

    >>> parse_einsum("ij,jk->ik", [(2, 3), (3, 4)])
    (['ij', 'jk'], 'ik', {'i': 2, 'j': 3, 'k': 4})
    """
    equation = equation.replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    letters = left.replace(",", "")
    if not arrow:  # without an arrow: the letters that occur once, in alphabetical order
        out = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if not (letters + out).isalpha() and letters + out:
        raise ArgumentError(
            f"einsum: {equation!r} may hold letters, commas and one arrow; "
            "write dimensions out instead of '...'"
        )
    if len(terms) != len(shapes):
        raise ArgumentError(f"einsum: {equation!r} names {len(terms)} operands, {len(shapes)} were given")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(set(term)) != len(term):
            raise ArgumentError(
                f"einsum: {term!r} names an index twice in one operand, which is not supported"
            )
        if len(term) != len(shape):
            raise ShapeError(f"einsum: {term!r} names {len(term)} dimensions, the operand has shape {shape}")
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(f"einsum: index {letter!r} has size {sizes[letter]} and {size}")
    if len(set(out)) != len(out) or not set(out) <= set(letters):
        raise ArgumentError(f"einsum: each index of the result {out!r} must occur once, and in an operand")
    return terms, out, sizes


class Einsum(Function):
    """y = einsum(equation, x_1, x_2, ...).

    The gradient of one operand is an einsum of gy with the other operands. An index that occurs in this
    operand alone was summed over, so its gradient is the same everywhere along it: it is left out of the
    einsum and stretched afterwards.
    """

    @staticmethod
    def forward(ctx, equation, *xs):
        ctx.terms, ctx.out, ctx.sizes = parse_einsum(equation, [x.shape for x in xs])
        ctx.save_for_backward(*xs)
        return ctx.xp.einsum(f"{','.join(ctx.terms)}->{ctx.out}", *xs)

    @staticmethod
    def backward(ctx, gy):
        xs = ctx.saved_tensors
        grads: list[Any] = [None]
        for i, term in enumerate(ctx.terms):
            if not ctx.needs_input_grad[i + 1]:
                grads.append(None)
                continue
            others = [t for k, t in enumerate(ctx.terms) if k != i]
            reachable = set(ctx.out).union(*others)
            kept = "".join(c for c in term if c in reachable)
            equation = f"{','.join([ctx.out, *others])}->{kept}"
            gx = ctx.xp.einsum(equation, gy, *[x for k, x in enumerate(xs) if k != i])
            for axis, letter in enumerate(term):
                if letter not in kept:
                    gx = ctx.xp.expand_dims(gx, axis)
            grads.append(ctx.xp.broadcast_to(gx, [ctx.sizes[c] for c in term]))
        return tuple(grads)
