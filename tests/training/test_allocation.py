"""A training step finds the memory of the one before it."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import ctypes, resource, sys, torch
from recurra.training.allocation import M_MMAP_THRESHOLD, keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
else:  # as glibc begins; it then raises the bound, and what lies on top decides what it keeps
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 << 10)
def step():
    parts = [torch.ones(4 << 20) for _ in range(8)]  # 16 MiB each
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_a_later_step_takes_no_pages_from_the_system():
    pages = {}
    for how in ("kept", "given back"):
        run = [sys.executable, "-c", STEPS, how]
        found = subprocess.run(run, capture_output=True, text=True, check=True)
        pages[how] = int(found.stdout)
    assert pages["kept"] < pages["given back"] / 10
