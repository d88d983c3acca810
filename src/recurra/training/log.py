"""Reading `log.csv`."""

import csv
from pathlib import Path


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log; empty cells are left out."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [{k: float(v) for k, v in row.items() if k and v} for row in rows if row["step"]]
