"""The switch between NumPy and CuPy.

An array says which library it belongs to (`namespace`), a `Device` says where new arrays go
(`to_device`), and everything random is drawn on the host (`random`), so that every device sees the
same numbers. Nothing of CuPy is imported until somebody asks for a CUDA device.

Read `registry.py` first; `cuda.py` explains a missing GPU.
"""

from minigrad.backend import cuda, random
from minigrad.backend.registry import (
    CPU,
    Backend,
    Device,
    backend_of,
    device,
    device_of,
    is_array,
    namespace,
    register,
    synchronize,
    to_device,
    to_numpy,
)

__all__ = [
    "CPU",
    "Backend",
    "Device",
    "backend_of",
    "cuda",
    "device",
    "device_of",
    "is_array",
    "namespace",
    "random",
    "register",
    "synchronize",
    "to_device",
    "to_numpy",
]
