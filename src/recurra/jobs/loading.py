"""`recurra.load`: a model of any task from its run folder."""

from pathlib import Path
from typing import Any

from recurra.errors import DataError, RunFolderError
from recurra.jobs import run_folder
from recurra.jobs.job import find_job


def load(path: str | Path) -> Any:
    """A trained model, from its run folder: a `LanguageModel`, …, as the run's task has it.

    Reads JSON, YAML and safetensors only: nothing in a folder can run code.

    Raises:
        RunFolderError: not a run folder, an unfinished or a damaged one.

    Example:
        >>> import recurra, tempfile
        >>> from recurra.data.splits import split_lines
        >>> text = split_lines(["one two three four"] * 50)
        >>> model = recurra.LanguageModel.train(text, model="ngram", order=3)
        >>> folder = tempfile.mkdtemp()
        >>> model.save(folder)
        >>> lines = ["one two three four", "four three two one"]
        >>> recurra.load(folder).score(lines) == model.score(lines)
        True
    """
    folder = Path(path)
    task = str(run_folder.read_config(folder)["task"])
    try:
        return find_job(task).load(folder)
    except (KeyError, DataError) as error:
        raise RunFolderError(f"the run folder {folder} is damaged: {error}") from error
