"""Is there a GPU that can be used, and if not, what is missing?

Three things have to be there: the NVIDIA driver, CuPy, and a device. `load` returns CuPy or raises one
error that says which of the three is missing and what to type. CuPy imports happily on a machine
without a GPU, so importing it proves nothing: the devices are counted too.
"""

from __future__ import annotations

import importlib
from typing import Any

from minigrad.errors import DeviceError

__all__ = ["device_count", "is_available", "load", "make_current", "why_not"]

INSTALL = (
    "pip install 'cupy-cuda13x[ctk]' (CUDA 13 driver) or pip install 'cupy-cuda12x[ctk]' (CUDA 12 driver)"
)


def _import_cupy() -> Any:
    return importlib.import_module("cupy")


def why_not() -> str | None:
    """None if a CUDA device can be used; otherwise one sentence that says what is missing."""
    try:
        cupy = _import_cupy()
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "cupy":
            return f"CuPy is not installed; {INSTALL}"
        return f"CuPy is installed but does not import: {error}; reinstall it with {INSTALL}"
    except Exception as error:  # a broken wheel raises ImportError, OSError, RuntimeError ...
        return f"CuPy is installed but does not import: {error}; reinstall it with {INSTALL}"
    try:
        if cupy.cuda.runtime.driverGetVersion() == 0:
            return (
                "CuPy is installed, but there is no NVIDIA driver; "
                "install the driver of your GPU, or use the CPU"
            )
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy is installed, but the NVIDIA driver does not answer: {error}"
    if count == 0:
        return (
            "CuPy and the NVIDIA driver are installed, but there is no CUDA device "
            "(is CUDA_VISIBLE_DEVICES empty?)"
        )
    return None


def load() -> Any:
    """The cupy module, or a DeviceError that says which of driver, CuPy and device is missing."""
    reason = why_not()
    if reason is not None:
        raise DeviceError(f"device 'cuda' cannot be used: {reason}")
    return _import_cupy()


def is_available() -> bool:
    """Whether a CUDA device can be used. Never raises."""
    return why_not() is None


def device_count() -> int:
    """How many CUDA devices can be used; 0 if none. Never raises."""
    return int(_import_cupy().cuda.runtime.getDeviceCount()) if is_available() else 0


def make_current(index: int) -> None:
    """Calculate on device `index` from now on. CuPy does not look where arrays are; at first it takes device 0."""
    load().cuda.Device(index).use()
