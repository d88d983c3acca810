"""What the columns of a table are for: time, id, targets, covariates; and how they are encoded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.frequency import Frequency
from recurra.data.forecast.tables import Floats, Table
from recurra.errors import ConfigError, DataError

CONDITION = re.compile(
    r"^\s*(.+?)\s*(>=|<=|==|!=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*$"
)
COMPARE = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
UNKNOWN = 0  # the code of a category that training did not see, or of none


@dataclass(frozen=True)
class Target:
    """What is forecast.

    Attributes:
        name: as the user wrote it.
        column: of the table.
        kind: "real", "count" (whole, not negative) or "yesno".
        operator, threshold: of a yes/no condition on the column.
    """

    name: str
    column: str
    kind: str = "real"
    operator: str = ""
    threshold: float = 0.0

    def values(self, table: Table) -> Floats:
        """The target's values, NaN where the column has none; 1.0 and 0.0 for yes and no.

        Raises:
            DataError: no such column, no number, or no count.
        """
        table.require(self.column, "target")
        numbers = table.numbers(self.column)
        if self.operator:
            holds = COMPARE[self.operator](numbers, self.threshold).astype(np.float64)
            return np.where(np.isnan(numbers), np.nan, holds)
        if self.kind == "count":
            bad = np.flatnonzero(
                (numbers < 0) | (numbers != np.floor(numbers)) & ~np.isnan(numbers)
            )
            if len(bad):
                raise DataError(
                    f"{table.place(int(bad[0]))}: {self.column} = {numbers[bad[0]]:g} is no count; "
                    "expected 0, 1, 2, …; choose another head, such as quantiles"
                )
        return numbers


def parse_target(text: str) -> Target:
    """A target as users write it: a column, or a condition on one.

    Example:
        >>> parse_target("rain > 0").kind, parse_target("rain>0").column
        ('yesno', 'rain')
        >>> parse_target("temperature").kind
        'real'
    """
    found = CONDITION.match(text)
    if found is None:
        return Target(text, text)
    column, operator, threshold = found.groups()
    return Target(text.replace(" ", ""), column, "yesno", operator, float(threshold))


@dataclass(frozen=True)
class Columns:
    """The roles of a table's columns, numbers apart from categories.

    Attributes:
        time, id: of these; `id` is None for a single series.
        targets: what is forecast.
        past: known up to the present only; `future`: known ahead, too; `static`: one value a
            series. Each names columns of numbers, and with `_categories` of text.
        is_wide: each target column is a series of its own, with the column's name as id.
    """

    time: str
    id: str | None
    targets: tuple[Target, ...]
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    past_categories: tuple[str, ...] = ()
    future_categories: tuple[str, ...] = ()
    static_categories: tuple[str, ...] = ()
    is_wide: bool = False

    def covariates(self) -> tuple[str, ...]:
        """All columns but time, id and targets."""
        numbers = (*self.past, *self.future, *self.static)
        return (*numbers, *self.past_categories, *self.future_categories, *self.static_categories)


def choose_columns(
    table: Table,
    time: str | None,
    id: str | None,
    targets: Sequence[str],
    *,
    past: Sequence[str] | None = None,
    future: Sequence[str] = (),
    static: Sequence[str] = (),
    categorical: Sequence[str] = (),
    is_wide: bool = False,
) -> Columns:
    """Find the role of every column.

    Args:
        table: the rows.
        time: its column; None takes the first of "time", "date", "datetime", "timestamp", "ds", …
        id: the column that tells series apart; None: one series.
        targets: columns or conditions; none: the last column, or all others for a wide table.
        past: columns known up to the present; None takes all that have no other role.
        future, static: columns known ahead; columns with one value a series.
        categorical: columns of numbers that are names (a zone, a code), besides those of text.
        is_wide: each target is a series of its own.

    Raises:
        DataError: a column that is not there. ConfigError: a column in two roles; no target.
    """
    frame = table.frame
    time = time or _time_column(table)
    for name, role in [(time, "time"), *([(id, "id")] if id else [])]:
        table.require(name, role)
    others = [name for name in frame.columns if name not in (time, id)]
    parsed = tuple(parse_target(text) for text in targets)
    if not parsed:
        names = [n for n in others if table.is_numeric(n)] if is_wide else others[-1:]
        parsed = tuple(Target(name, name) for name in names)
    if not parsed:
        raise ConfigError(f"{table.where}: no column is left to forecast; set target=COLUMN")
    parsed = tuple(_with_kind(target, table) for target in parsed)
    plain = {target.column for target in parsed if not target.operator}
    if past is None:
        taken = {*plain, *future, *static}
        past = [] if is_wide else [name for name in others if name not in taken]
        past = [name for name in past if not frame[name].dtype.is_temporal()]
    roles = {"past": past, "future": future, "static": static}
    _check_roles(table, roles, {time, id, *plain})
    is_text = {
        name: name in categorical or not (table.is_numeric(name) or table.is_bool(name))
        for names in roles.values()
        for name in names
    }
    numbers = {role: tuple(n for n in names if not is_text[n]) for role, names in roles.items()}
    texts = {
        f"{role}_categories": tuple(n for n in names if is_text[n]) for role, names in roles.items()
    }
    return Columns(time, id, parsed, **numbers, **texts, is_wide=is_wide)


@dataclass(frozen=True)
class Statistics:
    """What encoding needs to know of the training rows.

    Attributes:
        mean, std: by column of numbers, and by target; std is 1 where all values are equal.
        gappy: columns of numbers with missing values, which get an indicator.
        vocabularies: by column of categories, in the order of their codes, from code 1 on.
    """

    mean: dict[str, float]
    std: dict[str, float]
    gappy: tuple[str, ...] = ()
    vocabularies: dict[str, list[str]] = field(default_factory=dict)

    def codes(self, name: str, values: NDArray[np.object_]) -> NDArray[np.int64]:
        """Categories as numbers; those never seen in training, and missing ones, get 0."""
        index = {word: code for code, word in enumerate(self.vocabularies[name], start=1)}
        unique, inverse = np.unique(values.astype(str), return_inverse=True)
        codes = np.array([index.get(word, UNKNOWN) for word in unique], dtype=np.int64)
        return codes[inverse]

    def standardised(self, name: str, values: Floats) -> tuple[Floats, Floats]:
        """Values with mean 0 and deviation 1 in training, 0 where there is none; and where."""
        seen = ~np.isnan(values)
        scaled = (np.where(seen, values, self.mean[name]) - self.mean[name]) / self.std[name]
        return scaled, seen.astype(np.float64)


@dataclass(frozen=True)
class Schema:
    """All that turns a table into numbers, fixed when the model was trained.

    Attributes:
        columns: their roles.
        frequency: of the rows.
        season: steps of a season, for seasonal baselines and MASE.
        statistics: of the training rows.
        uses_calendar: whether clock and calendar are covariates.
        zone: of the times as `timezone` names it; `time_format` of those that are not ISO 8601.
    """

    columns: Columns
    frequency: Frequency
    season: int
    statistics: Statistics
    uses_calendar: bool = True
    zone: str | None = None
    time_format: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        columns = {**vars(self.columns), "targets": [vars(t) for t in self.columns.targets]}
        return {
            **vars(self),
            "columns": columns,
            "frequency": self.frequency.as_dict(),
            "statistics": vars(self.statistics),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Schema":
        """What `as_dict` gave, from JSON.

        Raises:
            KeyError, TypeError: a damaged one.
        """
        given = dict(values["columns"])
        targets = tuple(Target(**target) for target in given.pop("targets"))
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in given.items()
        }
        statistics = dict(values["statistics"])
        statistics["gappy"] = tuple(statistics["gappy"])
        rest = {k: values[k] for k in ("season", "uses_calendar", "zone", "time_format")}
        return cls(
            Columns(targets=targets, **lists),
            Frequency(**values["frequency"]),
            statistics=Statistics(**statistics),
            **rest,
        )


def _time_column(table: Table) -> str:
    known = ("time", "date", "datetime", "timestamp", "ds", "day", "month", "year", "time_hour")
    lower = {name.lower(): name for name in reversed(table.frame.columns)}
    for name in known:
        if name in lower:
            return lower[name]
    raise ConfigError(
        f"{table.where}: no column is called {', '.join(known[:5])}; set time=COLUMN to one of "
        f"{', '.join(table.frame.columns)}"
    )


def _with_kind(target: Target, table: Table) -> Target:
    role = "target"
    if set(target.column) & set("<>=!"):
        role = "target; a condition is a column, one of > >= < <= == !=, and a number"
    table.require(target.column, role)
    if target.kind == "real" and table.is_bool(target.column):
        return Target(target.name, target.column, "yesno")
    return target


def _check_roles(table: Table, roles: Mapping[str, Sequence[str]], taken: set[str | None]) -> None:
    seen = set(taken)
    for role, names in roles.items():
        for name in names:
            table.require(name, f"{role} covariate")
            if name in seen:
                raise ConfigError(
                    f"column {name!r} is named as {role} covariate and has another role already; "
                    "give each column one"
                )
            seen.add(name)
