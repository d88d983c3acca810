"""Threads that run one kernel together.

Where torch's own thread pool is OpenMP with GNU's entry points (Linux wheels, libomp too), the
kernel runs on the very threads that torch's operators use: nothing is created, and nothing
competes. Elsewhere, and in a process that was forked, the caller's thread works alone.

A fork copies the caller's thread only; OpenMP's pool in the child waits for threads that do not
exist. So a child of a fork (a DataLoader worker) uses one thread, as torch itself does there.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import cast

import torch

_state = {"is_forked": False}


def _mark_forked() -> None:
    _state["is_forked"] = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


@cache
def _parallel() -> Callable[[int, int, int, int], None] | None:
    """OpenMP's `GOMP_parallel(function, data, threads, flags)` in this process, if it is there."""
    library = _process()
    if library is not None and hasattr(library, "GOMP_parallel"):
        function = library.GOMP_parallel
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        function.restype = None
        return cast(Callable[[int, int, int, int], None], function)
    return None


def thread_limit() -> int:
    """How many threads a kernel may use now: never more than torch is set to."""
    if _state["is_forked"] or _parallel() is None:
        return 1
    return torch.get_num_threads()


def run_parallel(entry: int, data: int, threads: int) -> bool:
    """Call `entry(data)`, a code address, on that many threads at once, if there are as many.

    Returns:
        Whether there are; else nothing was called.
    """
    function = _parallel()
    if threads < 2 or function is None or _state["is_forked"]:
        return False
    if threads > torch.get_num_threads():
        return False
    function(entry, data, threads, 0)
    return True


def address_in_process(name: str) -> int:
    """The address of a C function that this process has loaded, or 0."""
    library = _process()
    if library is None or not hasattr(library, name):
        return 0
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


@cache
def openmp() -> dict[str, int]:
    """The addresses of OpenMP's functions that tell a thread its number, and of how many."""
    names = {"thread_number": "omp_get_thread_num", "thread_count": "omp_get_num_threads"}
    return {key: address_in_process(name) for key, name in names.items()}


@cache
def team_functions() -> tuple[int, int]:
    """The same, in the order in which the arguments of a function for a team have them."""
    found = openmp()
    return found["thread_number"], found["thread_count"]


@cache
def _process() -> ctypes.CDLL | None:
    """What is loaded in this process, where the system can be asked that."""
    return ctypes.CDLL(None) if os.name == "posix" else None
