"""Which of several processes this one is, before Lightning knows."""

import os


def is_main_process() -> bool:
    """Whether this is the first of the processes of a run (or the only one).

    Reads what launchers set: RANK (torchrun), SLURM_PROCID, NODE_RANK and LOCAL_RANK (Lightning).
    """
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))
