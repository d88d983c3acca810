"""What a figure depends on beside the code: versions, machine, memory."""

import os
import platform
import resource
import sys
from importlib.metadata import version

import torch

from recurra import __version__

PACKAGES = ("torch", "numpy", "numba", "lightning", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: version(name) for name in PACKAGES}
    return {"recurra": __version__, "python": platform.python_version(), **packages}


def machine() -> dict[str, str | int]:
    """The machine, in words and counts."""
    facts: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def peak_memory_bytes() -> int:
    """Most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
