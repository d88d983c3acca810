"""Counts against torch's own parameters and against what scans really keep."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from recurra.cells import CELLS, GRU_CELL, GRU_RESET_BEFORE_CELL, LSTM_CELL, find_cell
from recurra.insight import equal_hidden_size, gate_kinds, recording_cell, structure
from recurra.insight.structure import check_layout
from recurra.kernels.machines import CPU
from recurra.kernels.scan import Wishes, kept_buffers, outline_for, scan_forward
from recurra.layers import Recurrent
from recurra.reference import Controls, scan


@pytest.mark.parametrize(("name", "torchs"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "bidirectional": True}])
def test_counts_are_those_of_torchs_layer(name, torchs, options):
    found = structure(find_cell(name), 5, 8, **options)
    peer = torchs(5, 8, **options)
    assert found.weights == {n: tuple(p.shape) for n, p in peer.named_parameters()}
    assert found.parameters == sum(p.numel() for p in peer.parameters())
    y, last = peer(torch.zeros(1, 1, 5))
    states = last if isinstance(last, tuple) else (last,)
    assert list(found.states.values()) == [tuple(s.shape) for s in states]
    assert found.output == tuple(y.shape)


def test_the_weather_example_has_the_shapes_of_the_textbook():
    found = structure(find_cell("rnn"), 5, 8)
    assert found.weights["weight_ih_l0"] == (8, 5)
    assert found.weights["weight_hh_l0"] == (8, 8)
    assert found.multiply_adds_per_step == 8 * 5 + 8 * 8


@pytest.mark.parametrize("sizes", [(5, 8), (13, 7), (200, 1)])
def test_gru_has_exactly_three_quarters_of_an_lstm(sizes):
    gru, lstm, rnn = (structure(find_cell(n), *sizes) for n in ("gru", "lstm", "rnn"))
    assert gru.ratio(lstm) == Fraction(3, 4)
    assert rnn.ratio(lstm) == Fraction(1, 4)
    assert Fraction(gru.parameters, lstm.parameters) == Fraction(3, 4)
    assert [g.kind for g in gru.gates].count("gate") == 2
    assert [g.kind for g in lstm.gates].count("gate") == 3


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "lstm_layer_norm", "mingru", "jordan"])
@torch.no_grad()
def test_saved_memory_is_what_a_scan_keeps(name):
    cell = find_cell(name)
    wishes = Wishes(all_states=False, needs_gradient=True)
    layer = Recurrent(cell, 5, 8)

    def kept(time: int) -> int:
        x, state = torch.randn(time, 1, 5), layer.initial_state(1).layers[0]
        weights, none = layer._weights(0, 0), Controls()
        outline = outline_for(cell, x, state, weights, none, CPU, wishes)
        _, _, run = scan_forward(outline, x, state, weights, none)
        return sum(t.numel() * t.element_size() for t in (x, *kept_buffers(run)))

    assert structure(cell, 5, 8).saved_bytes_per_step == kept(5) - kept(4)


@pytest.mark.parametrize("name", CELLS)
def test_both_directions_and_both_layouts_are_verified_for_every_cell(name):
    assert all(check.is_true for check in check_layout(CELLS[name], 5, 8))


@pytest.mark.parametrize("name", CELLS)
def test_equal_hidden_size_is_the_nearest(name):
    cell, wanted = CELLS[name], 5_000
    hidden = equal_hidden_size(cell, 11, wanted)

    def gap(size: int) -> int:
        layer = Recurrent(cell, 11, size)
        return abs(sum(p.numel() for p in layer.parameters() if p.dim() == 2) - wanted)

    assert gap(hidden) <= min(gap(hidden - 1), gap(hidden + 1))


@pytest.mark.parametrize("name", CELLS)
def test_a_recording_cell_computes_the_same_and_keeps_its_gates(name):
    cell, seen = CELLS[name], []
    layer = Recurrent(cell, 3, 4)
    x, state = torch.randn(6, 2, 3), layer.initial_state(2).layers[0]
    with torch.no_grad():
        plain, _ = scan(cell, x, state, layer._weights(0, 0))
        recorded, _ = scan(recording_cell(cell, seen), x, state, layer._weights(0, 0))
    for a, b in zip(plain, recorded, strict=True):
        assert torch.equal(a, b)
    assert [tuple(step) for step in seen] == [cell.gates] * 6
    for kind in gate_kinds(cell):
        values = torch.stack([step[kind.name] for step in seen])
        assert values.shape == (6, 2, 4)
        if kind.activation == "sigmoid":
            assert float(values.min()) > 0
            assert float(values.max()) < 1


@pytest.mark.parametrize("cell", [LSTM_CELL, GRU_CELL, GRU_RESET_BEFORE_CELL])
def test_recorded_gates_are_those_of_the_equations(cell):
    seen: list = []
    layer = Recurrent(cell, 3, 4)
    x, state = torch.randn(1, 2, 3), layer.initial_state(2).map(torch.randn_like).layers[0]
    p = layer._weights(0, 0)
    with torch.no_grad():
        scan(recording_cell(cell, seen), x, state, p)
        sums = x[0] @ p.weight_ih.T + p.bias_ih + state[0] @ p.weight_hh.T + p.bias_hh
    for k, name in enumerate(cell.gates):
        if name not in ("n", "g"):
            expected = sums.chunk(len(cell.gates), -1)[k].sigmoid()
            torch.testing.assert_close(seen[0][name], expected)


def test_the_command_counts_and_draws(inspect):
    _, figures = inspect("structure", "--cells", "gru,lstm,minlstm", "--seconds", "0.01")
    assert figures["ratios"]["gru / lstm"] == "3/4"
    assert figures["cells"]["gru"]["weights"]["weight_ih_l0"] == [24, 5]
    assert figures["cells"]["lstm"]["gates"] == ["i", "f", "o"]
    assert all(c["is_true"] for cell in figures["cells"].values() for c in cell["checks"])
    assert all(cell["training_ms"] > 0 for cell in figures["cells"].values())


def test_two_directions_have_no_stream(inspect):
    options = ("--bidirectional", "--num-layers", 2, "--seconds", 0.01)
    _, figures = inspect("structure", "--cells", "gru", *options)
    assert figures["cells"]["gru"]["step_us"] is None
    assert figures["cells"]["gru"]["states"]["h"] == [4, 1, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "gru,gru"], "each once"),
        (["--cells", "lstn"], "did you mean 'lstm'"),
        (["--hidden-size", "0"], "sizes must be positive"),
        (["--batch", "0"], "must be above 0"),
    ],
)
def test_what_cannot_be_counted_is_named(refused, arguments, message, tmp_path):
    assert message in refused("structure", *arguments, "--out", tmp_path / "new")


def test_a_used_folder_is_not_overwritten(refused, tmp_path):
    (tmp_path / "mine").write_text("kept")
    assert "is not empty" in refused("structure", "--out", tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"
