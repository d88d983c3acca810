"""What a figure depends on beside the code: versions, machine, memory."""

import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from shlex import join
from typing import Any

import torch

from recurra import __version__
from recurra.kernels.cpu.host import find_host

PACKAGES = ("torch", "numpy", "numba", "lightning", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: version(name) for name in PACKAGES}
    return {"recurra": __version__, "python": platform.python_version(), **packages}


def machine() -> dict[str, str | int]:
    """The machine, in words and counts; `vectors` is what kernels are generated for."""
    facts: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "vectors": find_host().level,
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


def command_line() -> str:
    """The command that runs, as one would type it; "Python" for none of ours."""
    is_ours = Path(sys.argv[0]).name in ("recurra", "main.py")
    return join(["recurra", *sys.argv[1:]]) if is_ours else "Python"


def origin(seed: int) -> dict[str, Any]:
    """What stands beside all figures so that they can be made again."""
    return {
        "seed": seed,
        "command": command_line(),
        "versions": versions(),
        "machine": machine(),
    }


def provenance(seed: int) -> dict[str, Any]:
    """The origin of a run's figures, with the memory that they took: for `metrics.json`."""
    return {"peak_memory_bytes": peak_memory_bytes(), **origin(seed)}


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
