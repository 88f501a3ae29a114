"""What the C library does with memory that arrays give back.

A NumPy program makes and drops arrays of megabytes all the time. By default the C library returns each to the
operating system, which hands it out again page by page, filled with zeros: that can take longer than the
arithmetic on the array. A program that trains a model may tell it to keep them.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

# From malloc.h of the GNU C library
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 32 << 20  # bytes of one array: the most that the library accepts
KEPT = 1 << 30  # bytes of free memory from which on it is given back


def keep_freed_memory() -> bool:
    """Ask the C library to keep the memory of arrays that are gone, for the next ones; whether it will.

    For programs, not for libraries: it holds for the whole process, and for everything in it that uses the C
    library's memory. The trainer does it. Where there is no GNU C library nothing happens.

    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
