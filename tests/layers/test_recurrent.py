"""What `Recurrent` adds: lengths, resets, all states, streaming, regularisation, initialisation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recurra
from recurra import State
from recurra.cells import CELLS
from recurra.errors import ArgumentError, NotSupportedByBackend, ShapeError
from recurra.kernels.cpu.backend import runs_plainly
from recurra.layers import GRU, IRNN, LSTM, RNN, Jordan, Recurrent
from recurra.layers.state import shared_zeros
from recurra.reference import Controls

X = torch.float64


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["rnn", "gru", "lstm", "jordan", "mingru"]),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    directions=st.booleans(),
)
def test_a_ragged_batch_is_its_rows_alone(name: str, lengths: list[int], directions: bool) -> None:
    layer = Recurrent(CELLS[name], 3, 4, 2, bidirectional=directions, dtype=X)
    x = torch.randn(6, len(lengths), 3, dtype=X)
    y, states = layer(x, lengths=torch.tensor(lengths))
    states = [states] if isinstance(states, torch.Tensor) else states
    for row, n in enumerate(lengths):
        alone, last = layer(x[:n, row : row + 1])
        last = [last] if isinstance(last, torch.Tensor) else last
        torch.testing.assert_close(y[:n, row], alone[:, 0], rtol=0, atol=1e-12)
        assert not y[n:, row].any()
        for a, b in zip(states, last, strict=True):
            torch.testing.assert_close(a[:, row], b[:, 0], rtol=0, atol=1e-12)


def test_a_batch_of_empty_rows_trains_nothing() -> None:
    layer = LSTM(3, 4, 2, bidirectional=True)
    h_0 = torch.randn(4, 2, 4, requires_grad=True)
    y, (h_n, c_n) = layer(torch.randn(5, 2, 3), (h_0, h_0), lengths=torch.zeros(2, dtype=torch.int))
    (y.sum() + h_n.sum() + c_n.sum()).backward()
    assert torch.equal(h_n, h_0)
    assert not y.any()
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())
    assert torch.equal(h_0.grad, torch.full_like(h_0, 2.0))


def test_no_steps_at_all() -> None:
    y, h_n = GRU(3, 4)(torch.randn(0, 2, 3))
    assert y.shape == (0, 2, 4)
    assert h_n.shape == (1, 2, 4)


def test_resets_keep_sequences_apart_in_both_directions() -> None:
    layer = LSTM(3, 4, bidirectional=True, dtype=X)
    x = torch.randn(7, 1, 3, dtype=X)
    reset = torch.zeros(7, 1, dtype=torch.bool)
    reset[3] = True
    y, _ = layer(x, reset=reset)
    expected = torch.cat((layer(x[:3])[0], layer(x[3:])[0]))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_all_states_are_those_of_every_step_and_differentiable() -> None:
    layer = LSTM(3, 4, 2, dtype=X)
    x = torch.randn(5, 2, 3, dtype=X)
    y, (h, c) = layer(x, return_states="all")
    assert h.shape == c.shape == (2, 5, 2, 4)
    assert torch.equal(h[1], y)
    for t in range(1, 6):
        _, (h_n, c_n) = layer(x[:t])
        torch.testing.assert_close(h[:, t - 1], h_n, rtol=0, atol=1e-12)
        torch.testing.assert_close(c[:, t - 1], c_n, rtol=0, atol=1e-12)
    c.sum().backward()
    assert layer.weight_hh_l0.grad.abs().sum() > 0


def test_batch_first_turns_input_output_reset_and_all_states() -> None:
    layer = GRU(3, 4, batch_first=True, dtype=X)
    turned = GRU(3, 4, dtype=X)
    turned.load_state_dict(layer.state_dict())
    x, reset = torch.randn(2, 5, 3, dtype=X), torch.rand(2, 5) < 0.5
    lengths = torch.tensor([5, 2])
    y, h = layer(x, lengths=lengths, reset=reset, return_states="all")
    expected, expected_h = turned(
        x.transpose(0, 1), lengths=lengths, reset=reset.t(), return_states="all"
    )
    assert torch.equal(y, expected.transpose(0, 1))
    assert torch.equal(h, expected_h.transpose(1, 2))


def test_streaming_gives_the_sequence_and_a_state_survives_a_file(tmp_path) -> None:
    layer = LSTM(3, [4, 6], num_layers=2)
    x = torch.randn(6, 2, 3)
    y, state = layer(x)
    assert isinstance(state, State)
    stream = layer.initial_state(2)
    for t in range(6):
        if t == 3:
            stream.save(tmp_path / "state.safetensors")
            stream = State.load(tmp_path / "state.safetensors")
        y_t, stream = layer.step(x[t], stream)
        torch.testing.assert_close(y_t, y[t], rtol=1e-5, atol=1e-6)
    picked = stream.select(torch.tensor([1, 1]))
    assert torch.equal(picked.layers[1][0][0], stream.layers[1][0][1])
    assert not stream.detach().layers[0][0].requires_grad
    assert stream.to(torch.float64).layers[0][1].dtype == torch.float64


def test_step_refuses_two_directions() -> None:
    with pytest.raises(ArgumentError, match="bidirectional=False"):
        GRU(3, 4, bidirectional=True).step(torch.zeros(1, 3))


def test_recurrent_dropout_has_one_mask_for_all_steps() -> None:
    """With R = I, W = 0 and ReLU a unit is dropped once and for all, or doubled at every step."""
    layer = IRNN(1, 50, recurrent_dropout=0.5)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
    y, _ = layer(torch.zeros(3, 1, 1), torch.ones(1, 1, 50))
    assert set(y[2, 0].tolist()) == {0.0, 8.0}
    y, _ = layer.eval()(torch.zeros(3, 1, 1), torch.ones(1, 1, 50))
    assert torch.equal(y, torch.ones(3, 1, 50))


def test_zoneout_keeps_old_values_in_training_and_their_mean_in_evaluation() -> None:
    layer = RNN(1, 200, zoneout=0.25)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    y, _ = layer(torch.zeros(1, 1, 1), torch.ones(1, 1, 200))
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert 0.1 < y.mean().item() < 0.4
    y, _ = layer.eval()(torch.zeros(2, 1, 1), torch.ones(1, 1, 200))
    torch.testing.assert_close(y[:, 0, 0], torch.tensor([0.25, 0.0625]))


def test_weight_and_input_dropout_leave_weights_alone_and_vanish_in_evaluation() -> None:
    torch.manual_seed(1)
    plain = GRU(3, 16)
    dropped = GRU(3, 16, weight_dropout=0.5, input_dropout=0.5)
    dropped.load_state_dict(plain.state_dict())
    x = torch.randn(4, 2, 3)
    assert not torch.allclose(dropped(x)[0], plain(x)[0])
    assert torch.equal(dropped.weight_hh_l0, plain.weight_hh_l0)
    assert torch.equal(dropped.eval()(x)[0], plain(x)[0])


def test_the_same_seed_draws_the_same_masks() -> None:
    layer = LSTM(3, 8, 2, dropout=0.3, recurrent_dropout=0.3, zoneout=(0.1, 0.2), input_dropout=0.1)
    x = torch.randn(4, 2, 3)
    torch.manual_seed(5)
    first = layer(x)[0]
    torch.manual_seed(5)
    assert torch.equal(first, layer(x)[0])
    assert not torch.equal(first, layer(x)[0])


def test_a_learned_initial_state_is_trained() -> None:
    layer = LSTM(3, 4, initial_state="learned")
    assert layer.initial_c_l0.shape == (4,)
    layer(torch.randn(2, 5, 3))[0].sum().backward()
    assert layer.initial_h_l0.grad.abs().sum() > 0
    assert layer.initial_c_l0.grad.abs().sum() > 0


def test_initialisations() -> None:
    identity = IRNN(3, 5)
    assert torch.equal(identity.weight_hh_l0, torch.eye(5))
    assert not identity.bias_hh_l0.any()
    orthogonal = GRU(3, 5, init="orthogonal").weight_hh_l0.chunk(3)
    for block in orthogonal:
        torch.testing.assert_close(block @ block.t(), torch.eye(5), rtol=0, atol=1e-5)
    bias = LSTM(3, 5, forget_bias=2.0)
    f = bias.bias_ih_l0.chunk(4)[1] + bias.bias_hh_l0.chunk(4)[1]
    assert torch.equal(f, torch.full((5,), 2.0))
    chrono = LSTM(3, 500, init="chrono", chrono_steps=100)
    f, i = chrono.bias_ih_l0.chunk(4)[1], chrono.bias_ih_l0.chunk(4)[0]
    assert torch.equal(f, -i)
    assert 0 <= f.min() < f.max() <= torch.log(torch.tensor(99.0))
    with pytest.raises(ArgumentError, match="no bias_ih of a gate 'f'"):
        GRU(3, 4, forget_bias=1.0)


def test_residual_adds_the_input_where_sizes_are_equal() -> None:
    layer = GRU(4, 4, residual=True, dtype=X)
    plain = GRU(4, 4, dtype=X)
    plain.load_state_dict(layer.state_dict())
    x, lengths = torch.randn(5, 2, 4, dtype=X), torch.tensor([5, 2])
    y, _ = layer(x, lengths=lengths)
    expected, _ = plain(x, lengths=lengths)
    expected[:, 0] += x[:, 0]
    expected[:2, 1] += x[:2, 1]
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    with pytest.raises(ArgumentError, match="residual=True needs"):
        GRU(3, 4, residual=True)


def test_every_named_variant_runs_and_names_its_cell() -> None:
    x = torch.randn(4, 2, 3)
    for layer, name in (
        (LSTM(3, 4, peephole=True), "lstm_peephole"),
        (LSTM(3, 4, coupled=True), "lstm_coupled"),
        (LSTM(3, 4, layer_norm=True), "lstm_layer_norm"),
        (GRU(3, 4, layer_norm=True), "gru_layer_norm"),
        (GRU(3, 4, reset_after=False), "gru_reset_before"),
        (RNN(3, 4, nonlinearity="sigmoid"), "rnn_sigmoid"),
        (IRNN(3, 4), "irnn"),
        (Jordan(3, 8, output_size=4), "jordan"),
    ):
        assert layer.cell.name == name
        assert layer(x)[0].shape == (4, 2, 4)
    with pytest.raises(ArgumentError, match="exclude each other"):
        LSTM(3, 4, peephole=True, coupled=True)


def test_a_backend_asked_for_by_name_never_falls_back() -> None:
    layer = LSTM(3, 4, peephole=True, backend="torch")
    with pytest.raises(NotSupportedByBackend, match=r"torch.nn has no cell 'lstm_peephole'"):
        layer(torch.randn(2, 1, 3))
    explanation = LSTM(3, 4, backend="reference").explain(torch.randn(2, 1, 3))
    assert explanation.chosen == "reference"
    assert "→ reference" in str(explanation)
    with pytest.raises(ArgumentError, match="backend 'gpu' does not exist"):
        LSTM(3, 4, backend="gpu")(torch.randn(2, 1, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m(torch.zeros(5, 2, 4)),
            r"input has shape \(5, 2, 4\); expected \(time, batch, 3\)",
        ),
        (lambda m: m(torch.zeros(5, 2, 3).double()), "input is torch.float64"),
        (lambda m: m(torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)), "1 tensors, the cell has 2"),
        (
            lambda m: m(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 9), torch.zeros(1, 2, 4))),
            r"state h of layer 0 has shape \(2, 9\), the layer needs \(2, 4\)",
        ),
        (lambda m: m(torch.zeros(5, 2, 3), lengths=torch.tensor([5, 6])), "from 5 to 6"),
        (lambda m: m(torch.zeros(5, 2, 3), lengths=torch.tensor([5.0, 1])), "expected integers"),
        (lambda m: m(torch.zeros(5, 2, 3), lengths=torch.tensor([5])), r"of shape \(2,\)"),
        (
            lambda m: m(torch.zeros(5, 2, 3), reset=torch.zeros(2, 5) > 0),
            r"expected torch.bool \(5, 2\)",
        ),
        (lambda m: m.step(torch.zeros(2, 4)), r"expected \(batch, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call(LSTM(3, 4))


def test_arguments_out_of_range_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"dropout=1.5 is no probability"):
        LSTM(3, 4, dropout=1.5)
    with pytest.raises(ArgumentError, match="gives 2 layers and num_layers=3"):
        LSTM(3, [4, 5], num_layers=3)
    with pytest.raises(ArgumentError, match="init='xavier' is unknown"):
        LSTM(3, 4, init="xavier")
    with pytest.raises(ArgumentError, match="initial_state='ones'"):
        LSTM(3, 4, initial_state="ones")
    with pytest.raises(TypeError, match="hiden_size"):
        LSTM(3, 4, hiden_size=4)


def test_the_package_offers_the_layers() -> None:
    assert recurra.LSTM is LSTM


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru"])
def test_rows_of_distinct_inputs_are_the_inputs_where_they_stand(cell, backend):
    torch.manual_seed(3)
    layer = Recurrent(CELLS[cell], 3, 5, 2, bidirectional=True, backend=backend)
    distinct, rows = torch.randn(4, 3, requires_grad=True), torch.randint(4, (6, 7))
    lengths = torch.tensor([6, 2, 0, 6, 1, 5, 3])
    state = layer.initial_state(7).map(torch.randn_like)
    expected, last = layer(distinct[rows], state, lengths=lengths)
    found, own_last = layer(distinct, state, lengths=lengths, rows=rows)
    gradients = [torch.autograd.grad(y.square().sum(), distinct)[0] for y in (expected, found)]
    torch.testing.assert_close(gradients[1], gradients[0])
    with torch.no_grad():
        once, once_last = layer(distinct, state, lengths=lengths, rows=rows)
        full, _ = layer(distinct, rows=rows)
        torch.testing.assert_close(full, layer(distinct[rows])[0])
    for y, states in ((found, own_last), (once, once_last)):
        torch.testing.assert_close(y, expected)
        for one, other in zip(states.layers, last.layers, strict=True):
            torch.testing.assert_close(one, other)
    with pytest.raises(ShapeError, match="with rows, input has shape"):
        layer(distinct[rows], rows=rows)
    with pytest.raises(ArgumentError, match="rows goes without"):
        layer(distinct, rows=rows, reset=torch.zeros(6, 7, dtype=torch.bool))


@pytest.mark.parametrize(
    "lengths", [None, torch.tensor([6, 2, 0, 6, 1, 5, 3])], ids=["full", "ragged"]
)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_before", "mingru"])
def test_gradients_by_distinct_inputs_are_those_by_steps(cell, lengths):
    layer = Recurrent(CELLS[cell], 3, 5, 2, bidirectional=True)
    distinct, rows = torch.randn(4, 3, requires_grad=True), torch.randint(4, (6, 7))
    upstream, wanted = torch.randn(6, 7, 10), [distinct, *layer.parameters()]
    of_steps = torch.autograd.grad(layer(distinct[rows], lengths=lengths)[0], wanted, upstream)
    y = layer(distinct, lengths=lengths, rows=rows)[0]
    torch.testing.assert_close(torch.autograd.grad(y, wanted, upstream), of_steps)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(distinct, lengths=lengths, rows=rows)[0]
    rounded = torch.autograd.grad(y, wanted, upstream.to(y.dtype))
    torch.testing.assert_close(rounded, of_steps, rtol=0.05, atol=0.05 * len(rows))


def test_second_derivatives_by_distinct_inputs_are_those_by_steps():
    layer = Recurrent(CELLS["gru"], 3, 5)
    distinct, rows = torch.randn(4, 3, requires_grad=True), torch.randint(4, (6, 7))
    found = []
    for y in (layer(distinct[rows])[0], layer(distinct, rows=rows)[0]):
        (first,) = torch.autograd.grad(y.square().sum(), distinct, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [distinct, layer.weight_ih_l0]))
    torch.testing.assert_close(found[1], found[0])


def test_masks_and_residual_layers_read_rows_too():
    torch.manual_seed(3)
    layer = Recurrent(CELLS["gru"], 5, 5, 2, zoneout=0.2, residual=True).eval()
    distinct, rows = torch.randn(4, 5), torch.randint(4, (6, 2))
    with torch.no_grad():
        torch.testing.assert_close(layer(distinct, rows=rows)[0], layer(distinct[rows])[0])


@pytest.mark.parametrize("steps", [0, 1])
def test_who_writes_to_a_last_state_changes_nobody_elses(steps):
    layer, x = GRU(3, 4), torch.randn(5, 2, 3)
    expected = layer(x)[0].detach()
    with torch.no_grad():
        _, h_n = layer(x[:steps])
        h_n.fill_(7.0)
        assert (layer(x[:0])[1] == 0).all()
    torch.testing.assert_close(layer(x)[0].detach(), expected, rtol=0, atol=0)


def test_zeros_that_were_written_to_are_made_anew():
    zeros = shared_zeros(((4,),), 1, 2, torch.float32)
    assert shared_zeros(((4,),), 1, 2, torch.float32) is zeros
    zeros.layers[0][0].fill_(1.0)
    assert (shared_zeros(((4,),), 1, 2, torch.float32).layers[0][0] == 0).all()


def test_training_may_follow_inference_mode():
    layer, x = GRU(3, 11), torch.randn(5, 2, 3)
    with torch.inference_mode():
        expected = layer(x)[0].clone()
    y = layer(x)[0]
    y.sum().backward()
    torch.testing.assert_close(y.detach(), expected)


def test_zeros_made_inside_a_transform_are_not_shared():
    layer, x = GRU(3, 13), torch.randn(5, 2, 3)
    torch.func.grad(lambda x: layer(x)[0].sum())(x)
    state = shared_zeros(layer._state_sizes, 1, 2, torch.float32).layers[0][0]
    assert not torch._C._functorch.is_functorch_wrapped_tensor(state)
    expected = layer(x, torch.zeros(1, 2, 13))[0]
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=0)


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(5, 2, 3), (0, 2, 3), (5, 0, 3)])
def test_what_is_called_without_a_description_is_what_a_description_allows(name, dtype, shape):
    layer, x = Recurrent(CELLS[name], 3, 4, dtype=dtype), torch.zeros(shape, dtype=dtype)
    if runs_plainly(layer.cell, x, Controls()):
        assert layer.explain(x).chosen == "cpu"
    else:
        assert dtype == torch.float64 or 0 in shape
