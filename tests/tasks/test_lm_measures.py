"""Evaluation, mixtures and dynamic evaluation of language models, against the plain way."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import ArgumentError, ShapeError
from recurra.models.language_model import RecurrentLanguageModel
from recurra.tasks.interpolation import best_weight, interpolated
from recurra.tasks.lm.dynamic_evaluation import choose_learning_rate, dynamic_nats_per_token
from recurra.tasks.lm.evaluation import EncodedText, evaluate, text_log_probabilities

WORDS, EOS = 11, 1


@pytest.fixture(scope="module")
def model() -> RecurrentLanguageModel:
    torch.manual_seed(4)
    built = RecurrentLanguageModel(WORDS, cell="gru", embedding_size=6, hidden_size=6, num_layers=1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(std=0.7)
    return built


@pytest.mark.parametrize("length", [1, 2, 63, 64, 127, 1100])
def test_each_token_is_predicted_once_from_what_stands_before_it(model, length):
    tokens = torch.randint(WORDS, (length,))
    found = text_log_probabilities(model, tokens, EOS)
    lanes = max(1, min(16, length // 64))
    time = math.ceil(length / lanes)
    before = torch.cat([torch.tensor([EOS]), tokens])
    model.eval()
    for start in range(0, length, time):
        stop = min(start + time, length)
        log_p, _ = model.log_probabilities(
            before[start:stop, None], tokens[start:stop, None], model.initial_state(1)
        )
        torch.testing.assert_close(found[start:stop], log_p[:, 0])


def test_the_metrics_are_those_of_the_log_probabilities(model):
    tokens = torch.randint(WORDS, (500,))
    text = EncodedText(tokens, words=400, text_bytes=2000, unknown=0)
    nats = -float(text_log_probabilities(model, tokens, EOS).double().sum())
    metrics = evaluate(model, text, EOS)
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / 400))
    assert metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / 2000)
    assert metrics["tokens"] == 500


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_the_best_weight_is_the_best_of_all(seed, count):
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.rand(count, generator=generator).clamp_min(1e-3).log() for _ in range(2))
    weight = best_weight(one, other)
    best = interpolated(one, other, weight).sum()
    for rival in torch.linspace(0, 1, 101).tolist():
        assert interpolated(one, other, rival).sum() <= best + 1e-3


def test_a_model_that_is_always_better_gets_all_the_weight():
    one = torch.full((9,), 0.5).log()
    assert best_weight(one, one - 1) == pytest.approx(1, abs=1e-2)
    assert best_weight(one - 1, one) == pytest.approx(0, abs=1e-2)
    impossible = torch.full((9,), -math.inf)
    assert best_weight(impossible, one) == 0


def test_mixtures_of_different_shapes_are_refused():
    with pytest.raises(ShapeError, match="same shape"):
        interpolated(torch.zeros(3), torch.zeros(4), 0.5)
    with pytest.raises(ArgumentError, match="weight=2"):
        interpolated(torch.zeros(3), torch.zeros(3), 2)


def test_dynamic_evaluation_at_rate_zero_is_the_plain_one(model):
    tokens = torch.randint(WORDS, (60,))
    plain = -float(text_log_probabilities(model, tokens, EOS).double().mean())
    assert dynamic_nats_per_token(model, tokens, EOS, learning_rate=0.0) == pytest.approx(plain)


def test_dynamic_evaluation_learns_what_repeats_and_gives_the_weights_back(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    tokens = torch.tensor([3, 5, 2, 7, 1]).repeat(60)
    plain = dynamic_nats_per_token(model, tokens, EOS, learning_rate=0.0)
    rate, nats = choose_learning_rate(model, tokens, EOS)
    assert rate > 0
    assert nats < 0.5 * plain
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dynamic_evaluation_by_hand(model):
    tokens = torch.randint(WORDS, (4,))
    expected = 0.0
    twin = RecurrentLanguageModel(**model.options())
    twin.load_state_dict(model.state_dict())
    twin.eval()
    state = twin.initial_state(1)
    last = EOS
    for token in tokens.tolist():
        loss, nats, state = twin.loss(torch.tensor([[last]]), torch.tensor([[token]]), state)
        expected += float(nats) / 4
        gradients = torch.autograd.grad(loss, list(twin.parameters()), allow_unused=True)
        state = tuple(s.detach() for s in state)
        with torch.no_grad():
            for p, start, g in zip(twin.parameters(), model.parameters(), gradients, strict=True):
                p += 0.25 * (start - p)
                p -= 0.1 * g
        last = token
    found = dynamic_nats_per_token(
        model, tokens, EOS, learning_rate=0.1, decay=0.25, window_steps=1
    )
    assert found == pytest.approx(expected, rel=1e-5)
