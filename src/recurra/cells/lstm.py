"""Long short-term memory, with peepholes, and with coupled gates.

Plain (`lstm`, as torch.nn)::

    i = σ(W_i x + R_i h + b_i)        c' = f ∘ c + i ∘ g
    f = σ(W_f x + R_f h + b_f)        h' = o ∘ tanh(c')
    g = tanh(W_g x + R_g h + b_g)
    o = σ(W_o x + R_o h + b_o)

Symbols: i input, f forget, g candidate, o output gate, c memory, σ logistic; b is b_ih + b_hh.
Gate order: i f g o; state order: h c. Source: Hochreiter & Schmidhuber 1997, section 4; forget
gate: Gers, Schmidhuber & Cummins 2000, equation 3.

With peepholes (`lstm_peephole`): the gates see the memory through per-unit vectors p, as in Gers,
Schraudolph & Schmidhuber 2002, section 3::

    i = σ(… + p_i ∘ c)    f = σ(… + p_f ∘ c)    o = σ(… + p_o ∘ c')

Coupled (`lstm_coupled`): what is forgotten is what is written, i = 1 - f; gates f g o. Source:
Greff et al. 2017, "LSTM: a search space odyssey", variant CIFG. Differs: it couples f = 1 - i; we
keep f so that a forget bias means the same in every LSTM.

Projection is `proj_size` of the layer: h' = W_hr (o ∘ tanh(c')), Sak et al. 2014, as torch.nn.
"""

from recurra.cells._cell import Cell, Tensors


def step(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    _, c = state
    i, f, g, o = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return o * c.tanh(), c


def step_peephole(
    from_input: Tensors, from_hidden: Tensors, state: Tensors, vectors: Tensors
) -> Tensors:
    _, c = state
    p_i, p_f, p_o = vectors
    i, f, g, o = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    i, f, g = (i + p_i * c).sigmoid(), (f + p_f * c).sigmoid(), g.tanh()
    c = f * c + i * g
    o = (o + p_o * c).sigmoid()
    return o * c.tanh(), c


def step_coupled(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    _, c = state
    f, g, o = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    f, g, o = f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + (1 - f) * g
    return o * c.tanh(), c


LSTM_CELL = Cell(name="lstm", gates=("i", "f", "g", "o"), states=("h", "c"), step=step)
LSTM_PEEPHOLE_CELL = Cell(
    name="lstm_peephole",
    gates=("i", "f", "g", "o"),
    states=("h", "c"),
    step=step_peephole,
    vectors=("peephole_i", "peephole_f", "peephole_o"),
)
LSTM_COUPLED_CELL = Cell(
    name="lstm_coupled", gates=("f", "g", "o"), states=("h", "c"), step=step_coupled
)
