"""Wall time of each `recurra inspect` command from the shell, start of Python included.

python benchmarks/inspections.py --run RUN        # RUN: a recurrent run of any task; --memory too
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

RESULTS = Path(__file__).parent / "results" / "inspections.json"


def seconds(*words: str) -> float:
    """Of `recurra inspect WORDS`, which must succeed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "recurra.cli.main", "inspect", *words]
        started_s = time.monotonic()
        subprocess.run([*command, "--out", f"{folder}/out"], check=True, capture_output=True)
        return round(time.monotonic() - started_s, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--memory", action="store_true", help="the memory probe's quick form, too")
    asked = parser.parse_args()
    commands = [("structure",), ("gradients",), ("clipping",), *([("memory",)] * asked.memory)]
    found = {" ".join(words): seconds(*words) for words in commands}
    found |= {
        f"{name} RUN": seconds(name, asked.run) for name in ("gradients", "clipping", "gates")
    }
    machine.write(RESULTS, {"seconds": found})


if __name__ == "__main__":
    main()
