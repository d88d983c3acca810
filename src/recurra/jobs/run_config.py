"""What the configurations of all tasks have in common."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from recurra.training.configuration import Options, sections
from recurra.training.options import HardwareOptions, TrainingOptions


class DataOptions(Options):
    """Where the data of a run is; each task adds what it must know to read it.

    Attributes:
        data: files, folders or globs to train on; none means the task's embedded data.
        valid: the same, to choose the model by; none means a part of `data`.
        test: the same, to report on; none means a part of `data`.
    """

    data: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def absolute(self) -> Self:
        """The same data, found from any working folder."""
        paths = {
            name: tuple(str(Path(path).expanduser().absolute()) for path in getattr(self, name))
            for name in ("data", "valid", "test")
        }
        return self.model_copy(update=paths)


class RunConfig(Options):
    """A run of any task.

    Attributes:
        task: its name.
        seed: of weights, dropout and the order of batches.
    """

    task: str
    seed: Annotated[int, Field(ge=0)] = 1
    training: TrainingOptions = TrainingOptions()
    hardware: HardwareOptions = HardwareOptions()

    def absolute(self) -> Self:
        """The same run, with data that is found from any working folder."""
        found = {name: getattr(self, name) for name in sections(type(self))}
        data = {n: part.absolute() for n, part in found.items() if isinstance(part, DataOptions)}
        return self.model_copy(update=data)
