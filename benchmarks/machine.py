"""What every result file says of where and when it was measured."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import recurra


def facts() -> dict[str, Any]:
    """Machine, versions, commit and date."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "recurra": recurra.__version__,
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result with the facts of this machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts(), **result}, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    """Name, generation and cores: a cloud's machines of one name differ twofold in speed."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line]
        fields = [(name.strip(), value.strip()) for name, value in lines]
        first, cores = dict(reversed(fields)), sum(name == "processor" for name, _ in fields)
        if "model name" in first:
            kind = f"family {first['cpu family']}, model {first['model']}"
            return f"{first['model name']} ({kind}), {cores} cores"
    return platform.processor() or platform.machine()


def _commit() -> str:
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=here, capture_output=True, text=True).stdout.strip()
