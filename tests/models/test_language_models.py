"""The neural language models: one protocol, exact numbers, state that may be cut anywhere."""

import copy
import json

import pytest
import torch
from torch.nn import functional

from recurra.cells import GRU_CELL, Cell
from recurra.errors import ArgumentError
from recurra.models.language_model import RecurrentLanguageModel
from recurra.models.nnlm import NNLM
from recurra.models.softmax import IGNORED

WORDS = 17
MODELS = {
    "lstm": lambda: RecurrentLanguageModel(WORDS, embedding_size=5, hidden_size=7),
    "untied gru": lambda: RecurrentLanguageModel(
        WORDS, cell="gru", embedding_size=5, hidden_size=7, num_layers=3, tie_weights=False
    ),
    "adaptive": lambda: RecurrentLanguageModel(
        WORDS, embedding_size=8, hidden_size=16, tie_weights=False, cutoffs=[6, 11]
    ),
    "regularised": lambda: RecurrentLanguageModel(
        WORDS,
        embedding_size=6,
        hidden_size=6,
        dropout=0.4,
        hidden_dropout=0.3,
        input_dropout=0.6,
        embedding_dropout=0.1,
        weight_dropout=0.5,
        activation_penalty=2.0,
        slowness_penalty=1.0,
        residual=True,
        init="orthogonal",
        forget_bias=1.0,
    ),
    "nnlm": lambda: NNLM(WORDS, order=4, embedding_size=5, hidden_size=6, dropout=0.3),
    "direct nnlm": lambda: NNLM(WORDS, order=3, embedding_size=5, hidden_size=6, direct=True),
    "bigram nnlm": lambda: NNLM(WORDS, order=2, embedding_size=5, hidden_size=6),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    return MODELS[request.param]().eval()


def _text(time: int = 9, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    text = torch.randint(WORDS, (time + 1, batch))
    return text[:-1], text[1:].clone()


def test_a_window_split_anywhere_gives_the_same_numbers(model) -> None:
    tokens, targets = _text()
    whole, end = model.log_probabilities(tokens, targets, model.initial_state(3))
    for cut in (1, 4, 8):
        first, state = model.log_probabilities(tokens[:cut], targets[:cut], model.initial_state(3))
        second, state = model.log_probabilities(tokens[cut:], targets[cut:], state)
        torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-5)
        for a, b in zip(state, end, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_loss_and_next_word_agree_with_the_log_probabilities(model) -> None:
    tokens, targets = _text()
    log_p, _ = model.log_probabilities(tokens, targets, model.initial_state(3))
    loss, nats, _ = model.loss(tokens, targets, model.initial_state(3))
    assert not nats.requires_grad
    torch.testing.assert_close(nats, -log_p.mean())
    torch.testing.assert_close(loss.detach(), nats)  # penalties are for training only
    state = model.initial_state(3)
    for step, target, expected in zip(tokens, targets, log_p, strict=True):
        following, state = model.next_log_probabilities(step, state)
        torch.testing.assert_close(following.exp().sum(1), torch.ones(3))
        at_target = following.gather(1, target.unsqueeze(1)).squeeze(1).detach()
        torch.testing.assert_close(at_target, expected, rtol=0, atol=1e-5)


def test_rows_do_not_touch_each_other_and_the_state_has_the_batch_on_axis_1(model) -> None:
    tokens, targets = _text()
    whole, state = model.log_probabilities(tokens, targets, model.initial_state(3))
    assert all(part.shape[1] == 3 for part in state)
    alone, _ = model.log_probabilities(tokens[:, 1:2], targets[:, 1:2], model.initial_state(1))
    torch.testing.assert_close(alone[:, 0], whole[:, 1], rtol=0, atol=1e-5)


def test_ignored_targets_do_not_count(model) -> None:
    tokens, targets = _text()
    log_p, _ = model.log_probabilities(tokens, targets, model.initial_state(3))
    targets[4:, 0] = IGNORED
    masked, _ = model.log_probabilities(tokens, targets, model.initial_state(3))
    counted = targets != IGNORED
    torch.testing.assert_close(masked[counted], log_p[counted])
    assert not masked[~counted].any()
    _, nats, _ = model.loss(tokens, targets, model.initial_state(3))
    torch.testing.assert_close(nats, -log_p[counted].mean())


def test_options_rebuild_the_model(model) -> None:
    options = json.loads(json.dumps(model.options()))
    twin = type(model)(**options).eval()
    twin.load_state_dict(model.state_dict())
    tokens, targets = _text()
    expected, _ = model.log_probabilities(tokens, targets, model.initial_state(3))
    got, _ = twin.log_probabilities(tokens, targets, twin.initial_state(3))
    assert torch.equal(got, expected)


def test_training_reaches_every_parameter(model) -> None:
    model.train()
    tokens = torch.arange(WORDS).repeat(2).unsqueeze(1).repeat(1, 2)
    loss, _, _ = model.loss(tokens, tokens.roll(-1, 0), model.initial_state(2))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_gradients_equal_the_plain_formula_in_float64() -> None:
    """Tied weights get the sum of the embedding's and the softmax's gradients."""
    model = RecurrentLanguageModel(WORDS, embedding_size=5, hidden_size=7).double()
    tokens, targets = _text()
    loss, _, _ = model.loss(tokens, targets, model.initial_state(3))
    got = torch.autograd.grad(loss, list(model.parameters()))
    features, _, _ = model.features(tokens, model.initial_state(3))
    logits = features.flatten(0, 1) @ model.embedding.weight.T + model.softmax.bias
    plain = functional.cross_entropy(logits, targets.flatten())
    for a, b in zip(got, torch.autograd.grad(plain, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_tied_weights_are_one_parameter_and_size_the_last_layer() -> None:
    model = RecurrentLanguageModel(WORDS, embedding_size=5, hidden_size=7)
    assert model.softmax.weight is model.embedding.weight
    assert [tuple(s.shape) for s in model.initial_state(2)] == [(1, 2, 7)] * 2 + [(1, 2, 5)] * 2
    assert sum(key.endswith("weight") for key in model.state_dict()) == 1
    twin = copy.deepcopy(model)
    assert twin.softmax.weight is twin.embedding.weight


def test_penalties_are_those_of_awd_lstm() -> None:
    model = RecurrentLanguageModel(
        WORDS, embedding_size=5, activation_penalty=2.0, slowness_penalty=3.0
    )
    tokens, targets = _text()
    loss, nats, _ = model.loss(tokens, targets, model.initial_state(3))
    h, raw, _ = model.features(tokens, model.initial_state(3))
    assert h is raw  # no dropout
    expected = 2 * (h**2).mean() + 3 * ((h[1:] - h[:-1]) ** 2).mean()
    torch.testing.assert_close(loss - nats, expected)


def test_dropped_words_are_dropped_at_all_their_places() -> None:
    model = RecurrentLanguageModel(WORDS, embedding_size=5, embedding_dropout=0.5)
    tokens = torch.arange(WORDS).repeat(4, 1).t()
    x = model._embed(tokens)
    ratio = x / model.embedding.weight.unsqueeze(1)
    assert set(ratio.detach().round(decimals=4).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(ratio, ratio[:, :1].expand_as(ratio))


def test_variational_masks_stay_the_same_over_time() -> None:
    x = torch.ones(50, 2, 8)
    locked = RecurrentLanguageModel(WORDS, variational=True)._drop(x, 0.5)
    assert torch.equal(locked, locked[:1].expand_as(locked))
    fresh = RecurrentLanguageModel(WORDS, variational=False)._drop(x, 0.5)
    assert not torch.equal(fresh, fresh[:1].expand_as(fresh))


@pytest.mark.parametrize("direct", [False, True])
def test_nnlm_equals_the_equation_of_the_paper(direct: bool) -> None:
    """y = b + W x + U tanh(d + H x), one window at a time, oldest word first."""
    model = NNLM(4, order=3, embedding_size=2, hidden_size=3, direct=direct).double().eval()
    text = [2, 0, 3, 1]
    tokens, targets = torch.tensor(text[:-1]).unsqueeze(1), torch.tensor(text[1:]).unsqueeze(1)
    got, _ = model.log_probabilities(tokens, targets, model.initial_state(1))
    C, H, d = model.embedding.weight, model.hidden.weight, model.hidden.bias
    V, b = model.softmax.weight, model.softmax.bias
    padded = [1, *text]  # an end of sentence stands before the text
    for t, target in enumerate(text[1:]):
        x = torch.cat([C[padded[t]], C[padded[t + 1]]])
        y = b + V[:, :3] @ torch.tanh(d + H @ x)
        if direct:
            y = y + V[:, 3:] @ x
        p = y.exp() / y.exp().sum()
        torch.testing.assert_close(got[t, 0].exp(), p[target].detach())


def test_a_users_own_cell_trains_but_has_no_options() -> None:
    cell = Cell(name="mine", gates=GRU_CELL.gates, states=GRU_CELL.states, step=GRU_CELL.step)
    model = RecurrentLanguageModel(WORDS, cell=cell, embedding_size=5, hidden_size=5)
    tokens, targets = _text()
    model.loss(tokens, targets, model.initial_state(3))[0].backward()
    with pytest.raises(ArgumentError, match="not one of recurra's"):
        model.options()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0 must be at least 1"),
        ({"dropout": 1.5}, r"must be in 0\.\.1"),
        ({"activation_penalty": -1.0}, "must not be negative"),
        ({"cell": "lstn"}, "did you mean 'lstm'"),
        ({"cutoffs": [5]}, "exclude each other"),
        ({"cutoffs": [5, WORDS], "tie_weights": False}, "must increase"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        RecurrentLanguageModel(WORDS, **arguments)


@pytest.mark.parametrize("arguments", [{"order": 1}, {"dropout": -0.1}, {"eos_id": WORDS}])
def test_bad_arguments_of_the_nnlm_are_named(arguments: dict) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        NNLM(WORDS, **arguments)
