"""How much memory this machine has. Standard library only; 0 where nobody can say, and then nothing follows from it."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache


@cache
def total_memory() -> int:
    """Return the machine's main memory in bytes; 0 when unknown."""
    try:
        return _windows() if sys.platform == "win32" else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _windows() -> int:
    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        )

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    windll = getattr(ctypes, "windll")  # noqa: B009 (exists on Windows only, and type checkers elsewhere know)
    windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total)
