"""A pass over a scan, forward or backward, ready to be called.

Small layers run for half a millisecond, so what a call can know beforehand is kept: each thread has
its frame of arguments for each pass, and puts in only what is new.
"""

import ctypes
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from recurra.kernels.cpu.code import Code
from recurra.kernels.cpu.rows_code import SCHEDULE_ARGUMENTS
from recurra.kernels.cpu.scratch import frames, is_kept, scratch
from recurra.kernels.cpu.threads import run_parallel
from recurra.kernels.schedule import Schedule

MOST_FRAMES = 64  # that a thread keeps, each with the schedule of its last call
_LINE = 8  # numbers that lie in one line of the cache: counters share none


class Frame:
    """A thread's arguments of a pass.

    Attributes:
        values: all of them; `address` is where they lie.
        schedule: whose rows they are about.
    """

    def __init__(self, pass_: "Pass") -> None:
        self._memory = {name: scratch(name, size) for name, size in pass_.rooms.items()}
        self._counters = (ctypes.c_int64 * (_LINE * (pass_.groups + 2)))()
        self._counting = range(_LINE, len(self._counters), _LINE)
        counters = ctypes.addressof(self._counters) + 8 * _LINE
        known = {**pass_.known, "meeting": counters, "barriers": counters + 8 * _LINE}
        for argument, (name, first) in pass_.scratch.items():
            known[argument] = self._memory[name].data_ptr() + 4 * first
        self.values = pass_.code.values(known)
        self.address = ctypes.addressof(self.values)
        self.schedule: Schedule | None = None
        places = pass_.code.layout.places
        self._places = defaultdict(lambda: len(places), places)  # a spare one for other names
        self.refused = places["refused"]
        self._places_of_rows = _PlacesOfRows(self._places)

    def __setitem__(self, name: str, value: int) -> None:
        """A number; of a name that the pass does not ask for, nothing comes."""
        self.values[self._places[name]] = value

    def put(self, tensors: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
        """Addresses, which who calls keeps alive until the pass is over.

        Args:
            tensors: by the arguments' names.
            buffers: whose rows lie any distance apart, their columns side by side.
        """
        values, places = self.values, self._places
        for name, tensor in tensors.items():
            values[places[name]] = tensor.data_ptr()
        for name, rows in buffers.items():
            at, row = self._places_of_rows[name]
            values[at] = rows.data_ptr()
            values[row] = rows.stride(-2)

    def put_schedule(self, schedule: Schedule) -> None:
        """Which rows each step works on."""
        if schedule is not self.schedule:
            address = schedule.numbers.data_ptr()  # where they have the first arguments
            ctypes.memmove(self.address, address, 8 * len(SCHEDULE_ARGUMENTS))
            self.schedule = schedule

    def begin(self) -> None:
        """Set back what threads count up, and whether OpenMP refused to give them all."""
        self.values[self.refused] = 0
        for place in self._counting:
            self._counters[place] = 0


class _PlacesOfRows(dict[str, tuple[int, int]]):
    """A buffer's places: of its address, and of how far apart its rows are."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places

    def __missing__(self, name: str) -> tuple[int, int]:
        self[name] = found = self._places[f"{name}.at"], self._places[f"{name}.row"]
        return found


@dataclass(frozen=True, eq=False)
class Pass:
    """Code, and what it is told at every call.

    Attributes:
        code: of the pass.
        known: arguments that are the same in every thread.
        rooms: names of scratch, and how many numbers.
        scratch: for an argument that is the address of scratch, its name, and the first number.
        groups, share: groups of the batch's rows, and threads in each.
    """

    code: Code
    known: Mapping[str, int]
    rooms: Mapping[str, int]
    scratch: Mapping[str, tuple[str, int]]
    groups: int
    share: int

    @cached_property
    def threads(self) -> int:
        return self.groups * self.share

    def frame(self) -> Frame:
        """This thread's, with what is known put in."""
        own = frames()
        found: Frame | None = own.get(self)
        if found is None:
            found = Frame(self)
            if all(is_kept(size) for size in self.rooms.values()):
                if len(own) >= MOST_FRAMES:  # batches of ever other sizes
                    own.clear()
                own[self] = found
        return found

    def run(self, frame: Frame) -> None:
        """Run all groups of rows, each by `share` threads.

        With fewer threads at hand than that, because torch was set to less in the meantime, the
        process was forked, or OpenMP is inside another parallel region, the caller's thread runs
        one group after the other; the numbers are the same.
        """
        frame.begin()
        is_team = run_parallel(self.code.enter_address, frame.address, self.threads)
        if not is_team or frame.values[frame.refused]:
            frame["share"] = frame["threads"] = 1
            for group in range(self.groups):
                self.code.run(frame.address, group)
            frame["share"], frame["threads"] = self.share, self.threads
