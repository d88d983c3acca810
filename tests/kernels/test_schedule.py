"""Where the rows of a ragged batch lie: followed row by row, against the words of `Schedule`."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from recurra.kernels.cpu.rows_code import TABLE_COLUMNS
from recurra.kernels.schedule import make_schedule


@given(
    time=st.integers(1, 9),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=9),
    groups=st.integers(1, 4),
    is_reverse=st.booleans(),
)
def test_every_step_finds_its_row_and_its_old_state(time, shares, groups, is_reverse):
    lengths = [round(share * time) for share in shares]
    batch = len(lengths)
    schedule = make_schedule(time, batch, torch.tensor(lengths), groups, is_reverse=is_reverse)
    assert schedule.rows == sum(lengths) == len(schedule.places) == len(schedule.previous)
    assert sorted(schedule.order.tolist()) == list(range(batch))
    assert schedule.lengths.tolist() == [lengths[b] for b in schedule.order]
    first_rows = schedule.first_rows.tolist()
    index, previous = schedule.places.tensor(), schedule.previous.tensor()
    assert (first_rows[0], first_rows[-1]) == (0, batch)
    sizes = schedule.first_rows.diff()
    assert sizes.max() - sizes.min() <= 1
    expected_row = 0
    state = list(range(batch))  # where each row's newest state is, in the order of the groups
    steps_done = [0] * batch
    places = torch.full((time * batch,), -1)
    for group in range(groups):
        for step in range(time):
            entry = dict(zip(TABLE_COLUMNS, schedule.tables[group, step].tolist(), strict=True))
            own = range(first_rows[group], first_rows[group + 1])
            at_work = [r for r in own if schedule.lengths[r] > step]
            assert at_work == list(own)[: entry["count"]]
            assert entry["row"] == expected_row
            turns = [i % 2 * batch + first_rows[group] for i in (step + 1, step)]
            assert [entry["other_state"], entry["other_previous"]] == turns
            for member, r in enumerate(at_work):
                row, b = entry["row"] + member, int(schedule.order[r])
                t = lengths[b] - 1 - step if is_reverse else step
                assert index[row] == t * batch + b
                assert previous[row] == entry["previous"] + member == state[r]
                state[r] = entry["state"] + member
                assert state[r] == schedule.output_row + row
                places[t * batch + b] = row
                steps_done[r] += 1
            expected_row += len(at_work)
    assert steps_done == schedule.lengths.tolist()
    assert schedule.last.tolist() == state
    assert schedule.last_of_two.tolist() == [
        lengths[b] % 2 * batch + r for r, b in enumerate(schedule.order)
    ]
    assert torch.equal(schedule.kept.tensor(), places)
