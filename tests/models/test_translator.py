"""The encoder-decoder: its equations, its options, and that padding and steps change nothing."""

import pytest
import torch
from torch.nn import functional

from recurra.errors import ArgumentError
from recurra.models.attention import Attention, coverage_loss
from recurra.models.recurrent_stack import backwards
from recurra.models.softmax import IGNORED
from recurra.models.translator import RecurrentTranslator

SOURCES, TARGETS = 11, 13
EVERYTHING = {"source_at_every_step": True, "num_layers": 2, "bidirectional": True}
CASES = {
    "plain": {},
    "shared": {"separate_weights": False},
    "shared in both directions": {"separate_weights": False, **EVERYTHING, "attention": "dot"},
    "all five": {**EVERYTHING, "reverse_source": True},
    "general": {"attention": "general", "bidirectional": True},
    "additive, coverage": {"attention": "additive", "coverage": True},
    "dot, fed": {"attention": "dot", "input_feeding": True, "bidirectional": True},
    "shared, fed, coverage": {
        **{"separate_weights": False, "attention": "general", "input_feeding": True},
        **{"coverage": True, "source_at_every_step": True, "tie_embeddings": "target"},
    },
}


def build(**options: object) -> RecurrentTranslator:
    sizes = {"cell": "gru", "embedding_size": 6, "hidden_size": 7}
    model = RecurrentTranslator(SOURCES, TARGETS, **{**sizes, **options})
    for parameter in model.parameters():  # nothing is near zero, nothing cancels
        torch.nn.init.uniform_(parameter, -0.6, 0.6)
    return model.eval()


def batch() -> tuple[torch.Tensor, ...]:
    source = torch.randint(2, SOURCES, (5, 3))
    inputs = torch.randint(2, TARGETS, (4, 3))
    inputs[0] = 1
    targets = torch.randint(2, TARGETS, (4, 3))
    targets[3, 1] = targets[2:, 2] = IGNORED
    return source, torch.tensor([3, 5, 1]), inputs, targets


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_row_is_independent_of_its_neighbours_and_of_padding(options) -> None:
    model, (source, lengths, inputs, targets) = build(**options), batch()
    together, weights = model.log_probabilities(source, lengths, inputs, targets)
    for row, length in enumerate(lengths.tolist()):
        own = source[:length, row : row + 1], lengths[row : row + 1]
        alone, looks = model.log_probabilities(
            *own, inputs[:, row : row + 1], targets[:, row : row + 1]
        )
        torch.testing.assert_close(alone[:, 0], together[:, row], atol=2e-6, rtol=1e-5)
        if looks is not None:
            torch.testing.assert_close(looks[0], weights[row, :, :length], atol=2e-6, rtol=1e-5)
            assert not weights[row, :, length:].any()


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_steps_give_the_numbers_of_the_whole_sequence(options) -> None:
    model, (source, lengths, inputs, _) = build(**options), batch()
    memory = model.encode(source, lengths)
    whole, weights, _ = model.decode(inputs, memory)
    state = model.start(memory)
    for t, words in enumerate(inputs):
        log_p, looks, state = model.next_log_probabilities(words, memory, state)
        expected = model.softmax.log_probabilities(whole[t])
        torch.testing.assert_close(log_p, expected, atol=2e-6, rtol=1e-5)
        if looks is not None:
            torch.testing.assert_close(looks, weights[:, t], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_what_stands_past_an_end_changes_neither_loss_nor_gradient(options) -> None:
    model, (source, lengths, inputs, targets) = build(**options).train(), batch()
    found = []
    for junk in (2, 9):
        past = torch.cat([torch.zeros(1, 3).bool(), targets[:-1] == IGNORED])
        given = inputs.masked_fill(past, junk), targets
        model.zero_grad()
        loss, _ = model.loss(source, lengths, *given)
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters())])
    whole, _, _ = model.decode(inputs, model.encode(source, lengths))
    logits = whole @ model.softmax.weight.t() + model.softmax.bias
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert found[0][0].item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_a_batch_in_which_nothing_is_counted_costs_nothing() -> None:
    model, (source, lengths, inputs, targets) = build(label_smoothing=0.1).train(), batch()
    loss, nats = model.loss(source, lengths, inputs, torch.full_like(targets, IGNORED))
    loss.backward()
    assert (loss.item(), nats.item()) == (0.0, 0.0)
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "jordan"])
@pytest.mark.parametrize("options", [CASES["all five"], CASES["shared in both directions"]])
def test_any_cell_trains_every_parameter(cell, options) -> None:
    model = build(cell=cell, **options).train()
    loss, nats = model.loss(*batch())
    assert loss.item() == pytest.approx(nats.item())
    loss.backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_a_shared_recurrence_is_one_set_of_weights() -> None:
    assert build(separate_weights=False).encoder is None
    own, shared = build(), build(separate_weights=False)
    count = sum(p.numel() for p in own.decoder.parameters())
    sizes = [sum(p.numel() for p in m.parameters()) for m in (own, shared)]
    assert sizes[0] - sizes[1] == count


def test_a_reversed_source_is_read_from_each_rows_end_but_kept_in_place() -> None:
    source, lengths, inputs, targets = batch()
    one, other = build(attention="general"), build(attention="general", reverse_source=True)
    other.load_state_dict(one.state_dict())
    turned = backwards(source.unsqueeze(-1), lengths).squeeze(-1)
    first, looks = one.log_probabilities(turned, lengths, inputs, targets)
    second, mirrored = other.log_probabilities(source, lengths, inputs, targets)
    torch.testing.assert_close(first, second)
    row = looks[0, :, : lengths[0]].flip(-1)
    torch.testing.assert_close(row, mirrored[0, :, : lengths[0]])


def test_the_source_at_every_step_is_the_encoders_last_output() -> None:
    model, (source, lengths, inputs, _) = build(source_at_every_step=True), batch()
    memory = model.encode(source, lengths)
    torch.testing.assert_close(memory.last[0], memory.values[0, lengths[0] - 1])
    x = torch.cat([model.target_embedding(inputs), memory.last.expand(4, -1, -1)], -1)
    expected, _ = model.decoder(x, memory.state)
    torch.testing.assert_close(model.decode(inputs, memory)[0], expected)


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
def test_attention_follows_its_equation(score) -> None:
    attention = Attention(score, 4, 4 if score == "dot" else 6).double()
    values = torch.randn(1, 5, 4 if score == "dot" else 6).double()
    query, mask = torch.randn(1, 1, 4).double(), torch.tensor([[True, True, True, False, False]])
    context, weights, _ = attention(query, attention.keys(values), values, mask)
    h, scores = query[0, 0], []
    for m in values[0, :3]:
        if score == "dot":
            scores.append(h @ m)
        elif score == "general":
            scores.append(h @ (attention.project.weight @ m))
        else:
            inner = attention.project.weight @ m + attention.query.weight @ h + attention.query.bias
            scores.append(attention.vector @ inner.tanh())
    expected = torch.stack(scores).softmax(0)
    torch.testing.assert_close(weights[0, 0, :3], expected)
    torch.testing.assert_close(context[0, 0], expected @ values[0, :3])


def test_coverage_adds_what_was_looked_at_before_and_looking_twice_costs() -> None:
    attention = Attention("dot", 2, 2, coverage=True)
    with torch.no_grad():
        attention.coverage_weight.fill_(-100.0)
    values, mask = torch.eye(2).unsqueeze(0) * 9, torch.ones(1, 2, dtype=torch.bool)
    queries = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    _, weights, covered = attention(queries, values, values, mask)
    assert weights.argmax(-1).tolist() == [[0, 1]]  # the second looks where nobody did
    torch.testing.assert_close(covered, weights.sum(1))
    twice = torch.tensor([[[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]])
    expected = min(0.5, 0.75) + min(0.5, 0.25) + 0 + min(1.0, 0.75)
    assert coverage_loss(twice, torch.ones(1, 3)).item() == pytest.approx(expected)
    assert coverage_loss(twice, torch.tensor([[1.0, 0.0, 0.0]])).item() == 0.0


def test_label_smoothing_is_torchs() -> None:
    model, (source, lengths, inputs, targets) = build(label_smoothing=0.3).train(), batch()
    loss, nats = model.loss(source, lengths, inputs, targets)
    features, _, _ = model.decode(inputs, model.encode(source, lengths))
    logits = features @ model.softmax.weight.t() + model.softmax.bias
    flat = logits.flatten(0, 1), targets.flatten()
    assert loss.item() == pytest.approx(
        functional.cross_entropy(*flat, label_smoothing=0.3).item(), rel=1e-5
    )
    assert nats.item() == pytest.approx(functional.cross_entropy(*flat).item(), rel=1e-5)
    model.eval()
    loss, nats = model.loss(source, lengths, inputs, targets)
    assert loss.item() == pytest.approx(nats.item())


def test_scheduled_sampling_reads_the_models_own_guesses() -> None:
    model, (source, lengths, inputs, targets) = build().train(), batch()
    memory = model.encode(source, lengths)
    features, _, _ = model.decode(inputs, memory)
    guesses = model.softmax.log_probabilities(features[:-1].flatten(0, 1)).argmax(-1).view(3, 3)
    own = torch.cat([inputs[:1], guesses])
    expected, _ = model.loss(source, lengths, own, targets)
    found, _ = model.loss(source, lengths, inputs, targets, sampled=1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_tied_embeddings_are_one_tensor() -> None:
    tied = RecurrentTranslator(9, 9, embedding_size=4, hidden_size=5, tie_embeddings="all")
    assert tied.source_embedding is None
    assert tied.softmax.weight is tied.target_embedding.weight
    own = [n for n, p in tied.named_parameters() if p.shape == (9, 4)]
    assert own == ["target_embedding.weight"]


def test_dropout_masks_are_one_for_all_steps_or_one_a_step() -> None:
    for variational in (True, False):
        model = build(input_dropout=0.5, variational=variational).train()
        dropped = model._drop(torch.ones(30, 2, 8), 0.5)
        assert (dropped == dropped[:1]).all().item() is variational


@pytest.mark.parametrize("variational", [True, False])
def test_dropout_of_features_masks_the_words_of_a_sentence_alike_if_variational(
    variational,
) -> None:
    model, counted = build(dropout=0.5, variational=variational).train(), batch()[3] != IGNORED
    dropped = model._drop_rows(torch.ones(int(counted.sum()), 40), counted)
    sentence = counted.nonzero()[:, 1]
    first = [dropped[sentence == row][:1] for row in range(3)]
    assert dropped.unique().tolist() == [0, 2]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(dropped, torch.cat(first)[sentence]) is variational


def test_ten_pairs_are_learned_by_heart() -> None:
    torch.manual_seed(1)
    model = RecurrentTranslator(
        12, 12, cell="lstm", embedding_size=16, hidden_size=24, attention="general"
    )
    source, lengths = torch.randint(2, 12, (6, 10)), torch.full((10,), 6)
    targets = torch.cat([source.flip(0), torch.ones(1, 10, dtype=torch.long)])
    inputs = torch.cat([targets[-1:], targets[:-1]])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(120):
        loss, nats = model.loss(source, lengths, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert nats.item() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0 must be at least 1"),
        ({"attention": "cosine"}, "attention 'cosine' is unknown; use one of none, dot"),
        ({"input_feeding": True}, "input_feeding needs attention"),
        ({"coverage_loss": 1.0}, "coverage_loss needs attention"),
        ({"tie_embeddings": "all"}, "one joint vocabulary, got 11 and 13"),
        ({"tie_embeddings": "yes"}, "use one of none, target, all"),
        ({"dropout": 1.5}, "dropout=1.5 is no probability"),
        ({"attention": "dot", "input_feeding": True, "recurrent_dropout": 0.1}, "exclude"),
        ({"attention": "dot", "input_feeding": True, "hidden_dropout": 0.1}, "exclude"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        build(**options)


def test_options_describe_the_model() -> None:
    model = build(**CASES["shared, fed, coverage"])
    again = RecurrentTranslator(**model.options())
    again.load_state_dict(model.state_dict())
    assert again.options() == model.options()
