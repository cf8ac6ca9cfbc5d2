"""Makes glibc keep freed memory: training on a CPU frees and asks for the same large blocks at every step."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Takes large blocks from the heap and never gives the heap back, for this process.

    Measured on two cores, a step of mini pretraining: 0.50 s before, 0.43 s after; the rest went to page faults.
    Does nothing where the C library is another.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_TOP_PAD, 2**28)
