"""Classifier and pooling against the plain way: ragged, empty, in chunks, step by step."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from recurra.errors import ArgumentError, ShapeError
from recurra.layers import State
from recurra.models import classifier as module
from recurra.models.bag_of_ngrams import BagOfNgrams, LogisticRegression, NgramClassifier
from recurra.models.classifier import RecurrentClassifier
from recurra.models.pooling import KINDS, Pooling

WORDS, CLASSES, CHANNELS = 11, 3, 2


def build(**options) -> RecurrentClassifier:
    torch.manual_seed(4)
    options = {"vocabulary_size": WORDS, "embedding_size": 5, "hidden_size": 4, **options}
    model = RecurrentClassifier(CLASSES, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.eval()


def pooled_by_hand(pooling: Pooling, y: torch.Tensor) -> torch.Tensor:
    """One row (time, size) of real steps."""
    if not len(y):
        return torch.zeros(pooling.output_size)
    half = y.shape[1] // 2
    last = torch.cat([y[-1, :half], y[0, half:]]) if pooling.bidirectional else y[-1]
    if pooling.kind == "attention":
        weights = pooling.score(pooling.project(y).tanh()).softmax(0)
        return (weights * y).sum(0)
    parts = {"last": last, "mean": y.mean(0), "max": y.amax(0)}
    if pooling.kind == "concat":
        return torch.cat([parts["last"], parts["max"], parts["mean"]])
    return parts[pooling.kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_pooling_reads_the_real_steps_alone(kind, bidirectional):
    pooling = Pooling(kind, 4, bidirectional=bidirectional)
    y, lengths = torch.randn(6, 4, 4) - 2, torch.tensor([6, 1, 0, 3])
    for k, n in enumerate(lengths):
        y[n:, k] = float("nan")
    found = pooling(y, lengths)
    for k, n in enumerate(lengths):
        torch.testing.assert_close(found[k], pooled_by_hand(pooling, y[:n, k]))


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_in_pieces_is_pooling_of_the_whole(kind):
    pooling = Pooling(kind, 4)
    y, lengths = 40 * torch.randn(7, 3, 4), torch.tensor([7, 2, 4])
    kept = pooling.start(3, y)
    for start, stop in ((0, 1), (1, 4), (4, 7)):
        own = (lengths - start).clamp(0, stop - start)
        kept = pooling.update(kept, y[start:stop], own)
    torch.testing.assert_close(pooling.answer(kept), pooling(y, lengths))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_rows_of_a_ragged_batch_are_what_they_are_alone(kind, bidirectional):
    model = build(pooling=kind, bidirectional=bidirectional, num_layers=2, cell="lstm")
    tokens, lengths = torch.randint(WORDS, (8, 5)), torch.tensor([8, 0, 3, 1, 5])
    found = model.log_probabilities(tokens, lengths)
    other = tokens.clone()
    for k, n in enumerate(lengths):
        alone = model.log_probabilities(tokens[: max(n, 1), k : k + 1], lengths[k : k + 1])
        torch.testing.assert_close(found[k : k + 1], alone)
        other[n:, k] = WORDS - 1
    assert torch.equal(model.log_probabilities(other, lengths), found)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(
        model.log_probabilities(tokens[:, order], lengths[order]), found[order]
    )
    torch.testing.assert_close(found[1], model.linear.bias.log_softmax(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_stream_gives_the_answers_of_its_prefixes(kind, cell):
    model = build(pooling=kind, bidirectional=False, cell=cell, num_layers=2)
    tokens = torch.randint(WORDS, (6, 3))
    state = None
    with torch.no_grad():
        for t in range(6):
            found, state = model.step(tokens[t], state)
            torch.testing.assert_close(found, model.log_probabilities(tokens[: t + 1]))
    assert isinstance(state, State)
    row = state.select(torch.tensor([2]))
    torch.testing.assert_close(model.answer(row), found[2:])


def test_a_state_goes_through_a_file(tmp_path):
    model = build(bidirectional=False, pooling="attention")
    tokens = torch.randint(WORDS, (6, 2))
    state = model.read(tokens[:4], model.initial_state(2))
    state.save(tmp_path / "state.safetensors")
    state = model.read(tokens[4:], State.load(tmp_path / "state.safetensors"))
    torch.testing.assert_close(model.answer(state), model.log_probabilities(tokens))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_change_the_answer_of_one_direction(kind, monkeypatch):
    model = build(pooling=kind, bidirectional=False)
    tokens, lengths = torch.randint(WORDS, (23, 3)), torch.tensor([23, 0, 9])
    whole = model.encode(tokens, lengths)
    monkeypatch.setattr(module, "CHUNK_STEPS", 5)
    torch.testing.assert_close(model.encode(tokens, lengths), whole)
    torch.testing.assert_close(model.encode(tokens)[0], whole[0])


def test_with_two_directions_the_reverse_run_begins_anew_in_each_chunk(monkeypatch):
    model = build(pooling="mean")
    tokens = torch.randint(WORDS, (10, 1))
    monkeypatch.setattr(module, "CHUNK_STEPS", 5)
    found = model.encode(tokens)[0]
    embedded = model.words(tokens)
    forward = model.layers(embedded)[0][:, 0, :4].mean(0)
    reverse = torch.cat([model.layers(embedded[k : k + 5])[0][:, 0, 4:] for k in (0, 5)]).mean(0)
    torch.testing.assert_close(found, torch.cat([forward, reverse]))
    assert not torch.allclose(found[4:], model.layers(embedded)[0][:, 0, 4:].mean(0))


def test_numbers_are_standardised_and_the_scale_is_saved():
    model = build(vocabulary_size=0, channels=CHANNELS)
    x = 5 + 3 * torch.randn(6, 2, CHANNELS)
    plain = model.log_probabilities((x - 5) / 3)
    model.set_scale(torch.full((2,), 5.0), torch.full((2,), 3.0))
    torch.testing.assert_close(model.log_probabilities(x), plain)
    twin = RecurrentClassifier(**model.options())
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin.eval().log_probabilities(x), plain)


def test_options_describe_the_model():
    model = build(class_weights=[1.0, 2.0, 3.0], pooling="attention", cell="lstm")
    twin = RecurrentClassifier(**model.options())
    twin.load_state_dict(model.state_dict())
    tokens = torch.randint(WORDS, (4, 2))
    assert torch.equal(twin.eval().encode(tokens), model.encode(tokens))
    assert twin.class_weights.tolist() == [1, 2, 3]


def test_loss_weights_smooths_and_reports_the_plain_entropy():
    model = build(class_weights=[1.0, 5.0, 1.0], label_smoothing=0.3)
    tokens, targets = torch.randint(WORDS, (4, 2)), torch.tensor([1, 2])
    loss, nats = model.loss(tokens, None, targets)
    loss, log_p = loss.detach(), model.log_probabilities(tokens).detach()
    assert float(nats) == pytest.approx(-float(log_p[[0, 1], targets].mean()))
    weights = model.class_weights
    smooth = -(log_p * weights).sum(1) * 0.1
    chosen = -(log_p * weights)[[0, 1], targets] * 0.7
    assert float(loss) == pytest.approx(float((smooth + chosen).mean()))


@pytest.mark.parametrize("is_multi_label", [False, True])
def test_examples_that_do_not_count_are_left_out_of_the_sum(is_multi_label):
    torch.manual_seed(4)
    model = RecurrentClassifier(2, vocabulary_size=5, hidden_size=3, multi_label=is_multi_label)
    tokens = torch.randint(5, (4, 3))
    targets = torch.eye(2)[[0, 1, 1]] if is_multi_label else torch.tensor([0, 1, 1])
    counts = torch.tensor([True, False, True])
    each = [model.loss(tokens[:, [k]], None, targets[[k]])[0] for k in range(3)]
    loss, nats = model.loss(tokens, None, targets, None, counts)
    assert_close(loss, (each[0] + each[2]) / 3)
    assert_close(nats, torch.stack(each).mean().detach())


def test_multi_label_loss_is_the_entropy_of_each_class():
    model = build(multi_label=True, class_weights=[1.0, 2.0, 1.0], label_smoothing=0.2)
    tokens, targets = torch.randint(WORDS, (4, 2)), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    p = model.log_probabilities(tokens).exp()
    loss, nats = model.loss(tokens, None, targets)
    loss, p = loss.detach(), p.detach()
    plain = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(1).mean()
    assert float(nats) == pytest.approx(float(plain), rel=1e-4)
    soft = targets * 0.8 + 0.1
    each = -(soft * p.log() + (1 - soft) * (1 - p).log()) * torch.tensor([1.0, 2.0, 1.0])
    assert float(loss) == pytest.approx(float(each.sum(1).mean()), rel=1e-4)


def test_dropped_tokens_are_the_unknown_one_and_all_is_quiet_outside_of_training():
    options = {"token_dropout": 1.0, "input_dropout": 0.5, "dropout": 0.5, "zoneout": 0.0}
    model = build(**options)
    tokens = torch.randint(1, WORDS, (4, 2))
    assert torch.equal(model.encode(tokens), model.encode(tokens))
    model.input_dropout = 0.0
    model.train()
    torch.testing.assert_close(model.encode(tokens), model.encode(torch.zeros_like(tokens)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"channels": 2}, "give one"),
        ({"vocabulary_size": 0}, "give one"),
        ({"pooling": "sum"}, "pooling 'sum' is unknown"),
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"class_weights": [1.0]}, "one above 0 for each of 3"),
    ],
)
def test_bad_arguments_are_refused(options, expected):
    with pytest.raises(ArgumentError, match=expected):
        build(**options)


def test_bad_inputs_are_refused():
    with pytest.raises(ShapeError, match=r"expected integers \(time, batch\)"):
        build().encode(torch.zeros(3, 2))
    with pytest.raises(ShapeError, match=r"expected \(time, batch, 2\)"):
        build(vocabulary_size=0, channels=2).encode(torch.zeros(3, 2))
    with pytest.raises(ArgumentError, match="bidirectional=False"):
        build().step(torch.zeros(2, dtype=torch.long))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_logistic_regression_is_at_its_minimum(seed, multi_label):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(12, 4, generator=generator) * (torch.rand(12, 4, generator=generator) > 0.4)
    dense[3] = 0
    if multi_label:
        targets = (torch.rand(12, 3, generator=generator) > 0.5).long()
    else:
        targets = torch.randint(3, (12,), generator=generator)
    row, indices = dense.nonzero(as_tuple=True)
    starts = torch.searchsorted(row, torch.arange(12))
    model = LogisticRegression(4, 3, multi_label=multi_label)
    model.fit((indices, dense[row, indices], starts), targets, penalty=0.5)
    weight = model.weight.detach().clone().requires_grad_()
    bias = model.bias.detach().clone().requires_grad_()
    scores = dense @ weight + bias
    if multi_label:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        nats = entropy(scores, targets.float(), reduction="sum") / 12
    else:
        nats = torch.nn.functional.cross_entropy(scores, targets)
    loss = nats + 0.5 / 24 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 2e-3


def test_a_bag_counts_what_training_texts_have():
    bag = BagOfNgrams([list("aab"), list("ab"), []], orders=(1, 2), minimum_count=2)
    assert set(bag.features) == {"a", "b", "\x02 a", "a b", "b \x03"}
    indices, values, starts = bag.rows([list("ba"), [], list("zz")])
    assert [bag.features[i] for i in indices] == ["a", "b"]
    assert values.norm().item() == pytest.approx(1)
    assert starts.tolist() == [0, 2, 2]


def test_ngrams_count_by_how_rare_they_are_and_the_lengths_are_one():
    bag = BagOfNgrams([list("ab"), list("ab"), list("ac")], orders=(1, 1))
    indices, values, _ = bag.rows([list("aac")])
    expected = torch.tensor([(1 + math.log(2)) * math.log(4 / 3) ** 0.5, math.log(4 / 1) ** 0.5])
    assert [bag.features[i] for i in indices] == ["a", "c"]
    assert_close(values, expected / expected.norm())
    again = BagOfNgrams.of(bag.counts, bag.texts, bag.orders)
    assert_close(again.rows([list("aac")]), bag.rows([list("aac")]))


def test_a_regression_over_leaves_answers_with_classes():
    rows = torch.tensor([0, 1, 2]), torch.ones(3), torch.tensor([0, 1, 2])
    model = LogisticRegression(3, 2, class_of_leaf=[0, 1, 0])
    model.fit(rows, torch.tensor([0, 1, 2]), penalty=0.1)
    p = model(rows).detach().softmax(1)
    assert p.argmax(1).tolist() == [0, 1, 2]
    expected = torch.stack([p[:, 0] + p[:, 2], p[:, 1]], 1)
    assert_close(model.log_probabilities(rows).exp(), expected)


def test_ngrams_end_where_a_token_is_unknown_in_texts_and_in_streams():
    bag = BagOfNgrams([["a", None, "b"], ["a", "b"]], orders=(1, 2))
    assert sorted(bag.features) == ["\x02 a", "a", "a b", "b", "b \x03"]
    model = NgramClassifier(bag, LogisticRegression(len(bag.features), 2))
    torch.nn.init.normal_(model.regression.weight)
    text = ["b", None, "a", "b", "a", "a", None]
    prefixes = [text[: k + 1] for k in range(len(text))]
    assert_close(torch.stack([*model.stream(text)]), model.log_probabilities(prefixes))


def test_a_class_has_the_sum_of_its_leaves_in_answers_loss_and_streams():
    torch.manual_seed(5)
    options = {"vocabulary_size": 9, "hidden_size": 4, "bidirectional": False}
    model = RecurrentClassifier(
        2, class_of_leaf=[1, 0, 1], class_weights=[3.0, 0.5], **options
    ).eval()
    tokens, leaves = torch.randint(9, (5, 4)), torch.tensor([0, 1, 2, 2])
    p = model(tokens).softmax(1)
    expected = torch.stack([p[:, 1], p[:, 0] + p[:, 2]], 1)
    assert_close(model.log_probabilities(tokens).exp(), expected)
    loss, nats = model.loss(tokens, None, leaves)
    of_leaf = p[torch.arange(4), leaves]
    of_class = expected[torch.arange(4), torch.tensor([1, 0, 1, 1])]
    weights = torch.tensor([0.5, 3.0, 0.5, 0.5])
    assert_close(loss, -(weights * (of_leaf.log() + of_class.log()) / 2).mean())
    assert_close(nats, -of_class.log().mean())
    state = None
    for tokens_t in tokens:
        streamed, state = model.step(tokens_t, state)
    assert_close(streamed, expected.log())
    again = RecurrentClassifier(**model.options())
    again.load_state_dict(model.state_dict())
    assert_close(again.eval().log_probabilities(tokens), expected.log())
    for wrong in ([0, 0], [0, 2, 1], [0, 1, -1]):
        with pytest.raises(ArgumentError, match="class_of_leaf"):
            RecurrentClassifier(2, class_of_leaf=wrong, **options)
