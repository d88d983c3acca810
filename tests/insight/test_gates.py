"""Gates against equations, time scales in closed form, units that were put there to be found."""

import json
import math

import pytest
import torch

from recurra.cells import CELLS, find_cell
from recurra.errors import ArgumentError
from recurra.insight import find_units, record_gates
from recurra.insight.gates import correlations, text_properties, time_scale
from recurra.layers import GRU, LSTM, RNN, Recurrent


@pytest.mark.parametrize("bias", [-1.0, 0.0, 2.5])
def test_the_time_scale_of_a_constructed_lstm_is_that_of_its_forget_bias(bias):
    layer = LSTM(3, 4, forget_bias=bias)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.zero_()
    record = record_gates(layer, torch.randn(9, 2, 3))
    forget = 1 / (1 + math.exp(-bias))
    expected = torch.full((4,), -1 / math.log(forget))
    torch.testing.assert_close(record.time_scales()["c"], expected)
    assert record.memory == "c"


def test_a_value_falls_to_its_eth_part_in_the_time_scale():
    kept = torch.tensor([0.3, 0.9, 0.99])
    torch.testing.assert_close(kept ** time_scale(kept), torch.full((3,), math.exp(-1)))


def test_what_is_kept_is_the_gate_that_keeps_it():
    x = torch.randn(6, 2, 3)
    lstm, gru, rnn = (record_gates(layer, x) for layer in (LSTM(3, 4), GRU(3, 4), RNN(3, 4)))
    torch.testing.assert_close(lstm.kept["c"], lstm.gates["f"])
    torch.testing.assert_close(gru.kept["h"], gru.gates["z"])
    assert not rnn.kept["h"].any()
    minimal = record_gates(Recurrent(find_cell("mingru"), 3, 4), x)
    torch.testing.assert_close(minimal.kept["h"], 1 - minimal.gates["z"])


def test_gates_states_and_updates_satisfy_the_lstms_equations():
    record = record_gates(LSTM(3, 4), torch.randn(8, 2, 3))
    i, f, g, o = (record.gates[name] for name in "ifgo")
    c = record.states["c"]
    before = torch.cat((torch.zeros(1, 2, 4), c[:-1]))
    torch.testing.assert_close(c, f * before + i * g)
    torch.testing.assert_close(record.updates["c"], c - before)
    torch.testing.assert_close(record.states["h"], o * c.tanh())


@pytest.mark.parametrize("name", CELLS)
def test_every_layer_and_direction_is_recorded_as_it_runs(name):
    layer = Recurrent(find_cell(name), 3, 4, 2, bidirectional=True).eval()
    x, lengths = torch.randn(6, 3, 3), torch.tensor([6, 4, 1])
    with torch.no_grad():
        _, states = layer(x, layer.initial_state(3), lengths=lengths, return_states="all")
        first = torch.cat([states.layers[k][0] for k in (0, 1)], -1)
    for number, (index, is_reverse) in enumerate([(0, False), (0, True), (1, False), (1, True)]):
        reads = x if index == 0 else first
        options = {"lengths": lengths, "index": index, "is_reverse": is_reverse}
        record = record_gates(layer, reads, **options)
        for state, expected in zip(record.states.values(), states.layers[number], strict=True):
            torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)
        assert all(values.shape[:2] == (6, 3) for values in record.gates.values())


def test_updates_of_the_reverse_direction_come_from_the_step_after():
    layer = GRU(3, 4, bidirectional=True)
    record = record_gates(layer, torch.randn(5, 2, 3), is_reverse=True)
    h = record.states["h"]
    torch.testing.assert_close(record.updates["h"][:-1], h[:-1] - h[1:])
    torch.testing.assert_close(record.updates["h"][-1], h[-1])
    z, n = record.gates["z"], record.gates["n"]
    torch.testing.assert_close(h[:-1], (1 - z[:-1]) * n[:-1] + z[:-1] * h[1:])


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ArgumentError, match="there are 1 layers"):
        record_gates(GRU(3, 4), torch.randn(2, 1, 3), index=1)
    with pytest.raises(ArgumentError, match="1 direction"):
        record_gates(GRU(3, 4), torch.randn(2, 1, 3), is_reverse=True)


def test_correlation_is_pearsons():
    values, mark = torch.randn(50, 3), torch.randn(50)
    pairs = [torch.corrcoef(torch.stack((values[:, k], mark)))[0, 1] for k in range(3)]
    torch.testing.assert_close(correlations(values, mark), torch.stack(pairs))
    assert correlations(torch.ones(50, 1), mark).item() == 0


def test_planted_units_are_found_and_chance_does_not_hold():
    torch.manual_seed(2)
    text = [*'say "yes (or no 42)" twice.', "<eos>"]
    properties = text_properties(text * 40, "<eos>")
    units = torch.randn(len(text) * 40, 200)
    units[:, 7] += 4 * properties["inside quotes"]
    units[:, 90] -= 0.5 * properties["position in line"]
    found = {f.property: f for f in find_units({"h": units}, properties)}
    assert found["inside quotes"].unit == 7
    assert found["inside quotes"].held_out_r > 0.7
    assert found["position in line"].unit == 90
    assert found["position in line"].held_out_r < -0.7
    noise = torch.randn(len(text) * 40, 200)
    assert all(abs(f.held_out_r) < 0.2 for f in find_units({"h": noise}, properties))


def test_properties_are_what_a_reader_sees():
    tokens = ["The", "cat", "(", "42", ")", "said", '"', "no", '"', ".", "<eos>", "x"]
    found = {name: v.int().tolist() for name, v in text_properties(tokens, "<eos>").items()}
    assert found["position in line"] == [*range(11), 0]
    assert found["inside brackets"] == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert found["inside quotes"] == [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert found["digits"] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert found["capital letter"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert found["punctuation"] == [0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 0]
    assert found["end of line"] == [0] * 10 + [1, 0]


def test_the_command_draws_the_gates_of_a_run(inspect, lstm_run):
    folder, figures = inspect("gates", lstm_run, "the cat 3 said", "--tokens", 200)
    assert figures["tokens"] == 200
    assert set(figures["mean_gates"]) == {"i", "f", "g", "o"}
    assert figures["mean_kept"]["c"] == pytest.approx(figures["mean_gates"]["f"], rel=1e-5)
    assert len(figures["time_scales"]["c"]) == 12
    assert {"gates.png", "time-scales.png"} <= {path.name for path in folder.iterdir()}
    assert {unit["property"] for unit in figures["units"]} >= {"inside brackets", "digits"}
    assert json.dumps(figures, allow_nan=False)


def test_bad_requests_are_refused(refused, lstm_run, ngram_run, tmp_path):
    assert "has layers 1 to 1" in refused("gates", lstm_run, "a", "--layer", 2)
    assert "has no recurrence" in refused("gates", ngram_run, "a")
    assert "too few to find units" in refused("gates", lstm_run, "a", "--tokens", 20)
    assert "nothing but line ends" in refused("gates", lstm_run, "")
    assert "none.txt" in refused("gates", lstm_run, "a", "--data", tmp_path / "none.txt")
