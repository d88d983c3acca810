"""`recurra compare all`, its figures kept with machine and commit.

python benchmarks/all_tasks.py --folder runs/compare-all [--resume]
"""

import argparse
from pathlib import Path

import machine

from recurra.jobs.all_tasks import compare_all
from recurra.training.progress import ConsoleReporter

RESULTS = Path(__file__).parent / "results" / "all_tasks.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    where = {"resume": asked.folder} if asked.resume else {"out": asked.folder}
    found = compare_all(**where, reporter=ConsoleReporter())
    machine.write(RESULTS, {key: found.figures[key] for key in ("answer", "seeds", "tasks")})


if __name__ == "__main__":
    main()
