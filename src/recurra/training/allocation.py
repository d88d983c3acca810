"""Memory of a training process."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 1 << 30
LARGEST_BYTES = 32 << 20  # that glibc lets its heap hold; anything larger is mapped for itself


def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of freed memory for the next step; True if it does.

    It would give a step's activations back to the system and get them anew, page by page, at the
    next one: 8 % of a training step of an LSTM of 2 × 128. The process's largest size stays what
    it was; what it falls back to does not. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((M_TRIM_THRESHOLD, KEPT_BYTES), (M_MMAP_THRESHOLD, LARGEST_BYTES))
    return all(mallopt(name, size) == 1 for name, size in wanted)
