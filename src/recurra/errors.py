"""What can go wrong, as types.

    RecurraError
    ├── ShapeError (ValueError)               a tensor of the wrong shape, dtype or device kind
    ├── ArgumentError (ValueError)            out of its range, or two that exclude each other
    ├── ConfigError (ValueError)              an unknown key, or a value that is not allowed
    ├── DataError (ValueError)                a user's file that cannot be read as asked
    ├── RunFolderError (ValueError)           a damaged, foreign or unfinished run folder
    ├── CellError (ValueError)                a cell whose step breaks the contract of `Cell`
    │   └── UntraceableCellError              … or uses an operation that no kernel can be made from
    ├── NotSupportedByBackend (NotImplementedError)   a backend asked for by name refuses
    └── TrainingError (RuntimeError)          training cannot go on (the loss is not finite, …)

Every message says what is wrong, where, what was expected, what was got and what to do. All of them
are the user's to mend, so the command line prints the message alone and exits with 2.
"""


class RecurraError(Exception):
    """Base of all errors that recurra raises on purpose."""


class ShapeError(RecurraError, ValueError):
    """A tensor has the wrong shape, dtype or device."""


class ArgumentError(RecurraError, ValueError):
    """An argument is out of its range, or excludes another."""


class ConfigError(RecurraError, ValueError):
    """A configuration has an unknown key or a value that is not allowed."""


class DataError(RecurraError, ValueError):
    """A user's data cannot be read as asked; names file and line where there is one."""


class RunFolderError(RecurraError, ValueError):
    """A run folder is damaged, foreign or unfinished."""


class CellError(RecurraError, ValueError):
    """A cell's step breaks the contract of `Cell`."""


class UntraceableCellError(CellError):
    """A cell's step uses an operation that no kernel can be generated from."""


class NotSupportedByBackend(RecurraError, NotImplementedError):
    """A backend that was asked for by name cannot run this problem."""


class TrainingError(RecurraError, RuntimeError):
    """Training cannot go on."""
