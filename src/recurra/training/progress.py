"""What a user sees while waiting, on stderr: stages with their time, and a bar while training."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINE_SECONDS = 20.0  # between two lines where there is no terminal to draw a bar on


class Bar:
    """The bar of a training run; this base class shows nothing."""

    def start(self, step: int, total_steps: int) -> None:
        """Training begins, or goes on, at a step."""

    def show(self, step: int, share: float, elapsed_s: float, limit_s: float) -> None:
        """A step is done."""

    def figures(self, figures: Mapping[str, float], units_per_s: float | None) -> None:
        """New means of the training figures."""

    def checked(self, metric: str, value: float, is_best: bool) -> None:
        """The model was measured on valid."""


class Reporter:
    """Stages of a job; this base class shows nothing."""

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Something that may take seconds."""
        yield

    @contextmanager
    def bar(self, text: str, unit: str) -> Iterator[Bar]:
        """A training run."""
        yield Bar()

    def note(self, text: str) -> None:
        """One line that stays."""


class ConsoleReporter(Reporter):
    """Shows stages and bars on stderr: live on a terminal, as plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """A spinner, and on its end a line with the seconds it took."""
        started_s = time.monotonic()
        with self._live(text):
            yield
        self.console.print(f"  {text} [dim]{time.monotonic() - started_s:.1f} s[/dim]")

    @contextmanager
    def bar(self, text: str, unit: str) -> Iterator[Bar]:
        """A bar with loss, metric, speed and the time left."""
        if not self.console.is_terminal:
            yield _LineBar(self.console, text, unit)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=self.console, refresh_per_second=4) as progress:
            yield _LiveBar(progress, text, unit)

    def note(self, text: str) -> None:
        """One line that stays."""
        self.console.print(f"  {text}")

    @contextmanager
    def _live(self, text: str) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task(text, total=None)
            yield


class _FigureBar(Bar):
    def __init__(self, text: str, unit: str) -> None:
        self.text = text
        self.unit = unit
        self.total_steps = 0
        self.step = 0
        self.share = self._first_share = 0.0
        self.left_s: float | None = None
        self._started_s = time.monotonic()
        self._figures = ""
        self._metric = ""

    def start(self, step: int, total_steps: int) -> None:
        self.step, self.total_steps = step, total_steps
        self._started_s = time.monotonic()
        self._first_share = step / total_steps

    def show(self, step: int, share: float, elapsed_s: float, limit_s: float) -> None:
        self.step, self.share = step, share
        done = share - self._first_share
        if done > 0:
            left_s = (time.monotonic() - self._started_s) * (1 - share) / done
            self.left_s = min(left_s, max(limit_s - elapsed_s, 0.0))

    def figures(self, figures: Mapping[str, float], units_per_s: float | None) -> None:
        parts = [f"{_words(name)} {value:.3f}" for name, value in figures.items()]
        if units_per_s is not None:
            parts.append(f"{units_per_s:,.0f} {self.unit}/s")
        self._figures = "  ".join(parts)

    def checked(self, metric: str, value: float, is_best: bool) -> None:
        self._metric = f"valid {_words(metric)} {value:.2f}{'' if is_best else ' (not the best)'}"

    def line(self) -> str:
        left = "" if self.left_s is None else f"{_clock(self.left_s)} left"
        return "  ".join(part for part in (self._figures, self._metric, left) if part)


class _LiveBar(_FigureBar):
    def __init__(self, progress: Progress, text: str, unit: str) -> None:
        super().__init__(text, unit)
        self.progress = progress
        self.row = progress.add_task(text, total=1.0, figures="")
        self._drawn_s = 0.0

    def show(self, step: int, share: float, elapsed_s: float, limit_s: float) -> None:
        super().show(step, share, elapsed_s, limit_s)
        if time.monotonic() - self._drawn_s > 0.2 or share >= 1:
            self._drawn_s = time.monotonic()
            self.progress.update(self.row, completed=share, figures=self.line())


class _LineBar(_FigureBar):
    def __init__(self, console: Console, text: str, unit: str) -> None:
        super().__init__(text, unit)
        self.console = console
        self._printed_s = time.monotonic()

    def show(self, step: int, share: float, elapsed_s: float, limit_s: float) -> None:
        super().show(step, share, elapsed_s, limit_s)
        if time.monotonic() - self._printed_s > LINE_SECONDS:
            self._print()

    def checked(self, metric: str, value: float, is_best: bool) -> None:
        super().checked(metric, value, is_best)
        if time.monotonic() - self._printed_s > LINE_SECONDS / 4:
            self._print()

    def _print(self) -> None:
        self._printed_s = time.monotonic()
        self.console.print(
            f"  {self.text} step {self.step:,} of {self.total_steps:,}  {self.line()}",
            soft_wrap=True,
        )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}" if minutes else f"{seconds} s"
