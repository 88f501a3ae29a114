"""What a figure depends on: the machine, how busy it is, and the versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy
import threadpoolctl
import torch

from minigrad import __version__

__all__ = ["describe", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> list[tuple[str, str]]:
    """(what, value) for the page's first table."""
    return [
        ("CPU", f"{_cpu()}, {usable_cores()} usable cores"),
        ("vector instructions", _vectors()),
        ("RAM", f"{_ram() / 2**30:.1f} GiB"),
        ("system", platform.platform()),
        ("load average before", _load()),
        ("Python", platform.python_version()),
        ("minigrad", __version__),
        ("NumPy", f"{numpy.__version__} with {_blas()}"),
        ("PyTorch", torch.__version__),
    ]


def _cpuinfo(key: str) -> str:
    """The first value of a key in /proc/cpuinfo; "" where there is none (not Linux, or another processor)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


def _cpu() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _vectors() -> str:
    flags = _cpuinfo("flags").split()
    known = [flag for flag in ("avx2", "fma", "avx512f", "avx512_vnni", "amx_tile") if flag in flags]
    return ", ".join(known) or "unknown"


def _ram() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _load() -> str:
    """Above about 0.2 somebody else was working, and the figures are worth less."""
    return f"{os.getloadavg()[0]:.2f}"


def _blas() -> str:
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "blas":
            version, kernel = library.get("version"), library.get("architecture")
            return f"{library['internal_api']} {version} ({kernel})"
    return "an unknown BLAS"
