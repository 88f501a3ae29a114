"""Pictures for the tutorial: curves of functions, pages of images, curves that grow during training.

The drawing itself is in `minigrad/plot.py`; the names and arguments here are the tutorial's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad import plot as pictures  # `plot` is a function here, as in the tutorial
from minigrad.errors import ArgumentError
from minigrad.tensor import Tensor

__all__ = ["Animator", "plot", "set_axes", "set_figsize", "show_images", "use_svg_display"]

FORMATS = ("-", "m--", "g-.", "r:")


def use_svg_display() -> None:
    """Does nothing: the live plot is SVG anyway, and a notebook keeps the format that it has chosen."""


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """The size, in inches, of figures that pyplot makes from now on."""
    pictures.pyplot().rcParams["figure.figsize"] = figsize


set_axes = pictures.set_axes


def plot(
    X: Any,
    Y: Any = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] | None = None,
    xlim: Sequence[float] | None = None,
    ylim: Sequence[float] | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    fmts: Sequence[str] = FORMATS,
    figsize: tuple[float, float] = (3.5, 2.5),
    axes: Any = None,
) -> None:
    """Curves, drawn with pyplot.

    Args:
        X: places of the points, tensors, arrays or lists: one for all curves, or a list with one for each.
        Y: heights, in the same forms. Without Y, X has the heights, over 0, 1, 2, ...
        axes: to draw in; default: pyplot's own. What was there is wiped away.

    Raises:
        ArgumentError: X and Y have different numbers of curves, or a curve different numbers of points.

    >>> plot([0, 1, 2], [[0, 1, 4], [0, 2, 4]], "x", "f(x)", legend=["x^2", "2x"])
    """
    xs, ys = ([], _curves(X)) if Y is None else (_curves(X), _curves(Y))
    if Y is None:
        xs = [np.arange(len(y)) for y in ys]
    if len(xs) == 1:
        xs = xs * len(ys)
    sizes = [len(x) for x in xs], [len(y) for y in ys]
    if sizes[0] != sizes[1]:
        raise ArgumentError(
            f"plot: X and Y do not fit together, their curves have {sizes[0]} and {sizes[1]} points"
        )
    set_figsize(figsize)
    axes = pictures.pyplot().gca() if axes is None else axes
    axes.cla()
    for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
        axes.plot(x, y, fmts[number % len(fmts)])
    set_axes(axes, xlabel, ylabel, xlim, ylim, xscale, yscale, legend)


def _curves(values: Any) -> list[np.ndarray]:
    """One array for each curve: the values are one curve, or a list of them."""
    several = len(values) > 0 and hasattr(values[0], "__len__") and np.ndim(_on_host(values[0])) > 0
    return [_on_host(curve) for curve in values] if several else [_on_host(values)]


def show_images(
    imgs: Sequence[Any], num_rows: int, num_cols: int, titles: Sequence[str] | None = None, scale: float = 1.5
) -> Any:
    """A page of pictures, made with pyplot; its axes, row by row."""
    _, axes = pictures.pyplot().subplots(num_rows, num_cols, figsize=(num_cols * scale, num_rows * scale))
    flat = np.atleast_1d(axes).flatten()
    pictures.images([_on_host(image) for image in imgs], list(flat), titles)
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
        fmts: Sequence[str] = FORMATS,
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
        self._display = pictures.NotebookDisplay(self._draw)

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
            self._figure = pictures.new_figure(*self._figsize)
            self._figure.subplots(*self._grid)
        axes = self._figure.axes[0]
        axes.cla()
        for number, (x, y) in enumerate(zip(self.X, self.Y, strict=True)):
            axes.plot(x, y, self._fmts[number % len(self._fmts)])
        set_axes(axes, *self._style)
        return self._figure
