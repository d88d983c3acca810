"""`torch.compile`: one graph whatever the length, with the numbers and gradients of plain calls."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from recurra.cells import CELLS
from recurra.kernels import library
from recurra.layers import GRU, LSTM, Recurrent

pytestmark = pytest.mark.kernels


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _answers(function, layer, x, **options) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    torch.manual_seed(5)  # of the masks
    y, states = function(x, **options)
    states = [states] if isinstance(states, torch.Tensor) else list(states)
    torch.manual_seed(6)
    loss = sum((r * torch.randn_like(r)).sum() for r in (y, *states))
    return [y, *states, *torch.autograd.grad(loss, [x, *layer.parameters()])]


CELLS_OF_EVERY_KIND = ["lstm", "gru_reset_before", "jordan", "lstm_layer_norm", "lstm_peephole"]


@pytest.mark.parametrize("name", [*CELLS_OF_EVERY_KIND, "mingru"])
def test_compiled_layers_answer_as_plain_ones(name: str) -> None:
    layer = Recurrent(CELLS[name], 3, 4, bidirectional=True, zoneout=0.1).eval()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, reset = torch.randn(6, 3, 3), torch.zeros(6, 3, dtype=torch.bool)
    reset[2, 1] = True
    lengths = torch.tensor([6, 0, 3])
    for options in ({"lengths": lengths, "return_states": "all"}, {"reset": reset}):
        expected = _answers(layer, layer, x, **options)
        got = _answers(compiled, layer, x, **options)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_one_graph_of_few_nodes_serves_all_lengths() -> None:
    layer = GRU(3, 4, 2)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for time in (11, 50, 7, 400):
        x = torch.randn(time, 2, 3)
        torch.testing.assert_close(compiled(x)[0], layer(x)[0], rtol=0, atol=1e-6)
    graphs = [[str(n.target) for n in graph.graph.nodes] for graph in counter.graphs]
    assert sum("recurra.scan" in target for nodes in graphs for target in nodes) == layer.num_layers
    assert max(len(nodes) for nodes in graphs) < 60


def test_cells_are_kept_apart_in_one_compiled_function() -> None:
    layers = [GRU(3, 4), LSTM(3, 4), GRU(3, 5)]
    compiled = torch.compile(lambda layer, x: layer(x)[0], fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 2, 3)
    for layer in (*layers, *layers):
        torch.testing.assert_close(compiled(layer, x), layer(x)[0], rtol=0, atol=1e-6)


def test_training_masks_are_drawn_anew_in_each_call() -> None:
    layer = LSTM(3, 8, recurrent_dropout=0.5, zoneout=0.3, weight_dropout=0.2)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 2, 3)
    first, second = compiled(x)[0], compiled(x)[0]
    assert not torch.equal(first, second)
    first.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_without_gradients_nothing_is_kept() -> None:
    layer = LSTM(3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[0], layer(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CELLS_OF_EVERY_KIND)
@pytest.mark.parametrize("is_ragged", [False, True])
def test_the_operator_is_registered_as_torch_asks(name: str, is_ragged: bool) -> None:
    layer = Recurrent(CELLS[name], 3, 4)
    weights = layer._weights(0, 0)
    given = [p for p in weights[:6] if p is not None]
    x = torch.randn(5, 2, 3, requires_grad=True)
    start = [torch.zeros(2, size, requires_grad=True) for size in layer._state_sizes[0]]
    lengths = [torch.tensor([3, 5])] if is_ragged else []
    has = [p is not None for p in weights[:6]]
    has_controls = [is_ragged, False, False, *[False] * len(start)]
    arguments = ([x, *start, *given, *weights.vectors], lengths, library._number(layer.cell))
    torch.library.opcheck(
        torch.ops.recurra.scan.default, (*arguments, has, has_controls, False, True, False, True),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )  # fmt: skip
