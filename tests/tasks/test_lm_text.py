"""Generation and scoring of lines."""

import math

import pytest
import torch

from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError
from recurra.models.language_model import RecurrentLanguageModel
from recurra.models.nnlm import NNLM
from recurra.tasks.lm.generation import generate, next_tokens, stream, truncated
from recurra.tasks.lm.scoring import line_log_probabilities, score

LINES = ["the cat sat on the mat", "a dog ran", "", "the the the the the the the the the"]
TOKENIZER = Tokenizer.train(LINES)
WORDS = len(TOKENIZER.vocabulary)


@pytest.fixture(params=["lstm", "nnlm"])
def model(request):
    torch.manual_seed(2)
    if request.param == "nnlm":
        built = NNLM(WORDS, order=3, hidden_size=5, embedding_size=4)
    else:
        built = RecurrentLanguageModel(WORDS, embedding_size=5, hidden_size=5, num_layers=2)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_()
    return built.eval()


def by_hand(model, ids):
    """Log-probability of a line and its end, token by token."""
    state, total, last = model.initial_state(1), 0.0, TOKENIZER.eos_id
    for token in [*ids, TOKENIZER.eos_id]:
        log_p, state = model.next_log_probabilities(torch.tensor([last]), state)
        total += float(log_p[0, token])
        last = token
    return total


@torch.no_grad()
def test_a_line_costs_the_sum_of_its_tokens_whatever_stands_beside_it(model):
    scores = score(model, TOKENIZER, LINES)
    assert sorted(one.line for one in scores) == sorted(LINES)
    totals = [one.log_probability for one in scores]
    assert totals == sorted(totals, reverse=True)
    for one in scores:
        ids = TOKENIZER.encode(one.line)
        assert one.log_probability == pytest.approx(by_hand(model, ids), abs=1e-4)
        assert one.tokens == len(ids) + 1
        assert one.perplexity == pytest.approx(math.exp(-one.log_probability / one.tokens))


def test_the_size_of_a_batch_changes_nothing(model):
    lines = [TOKENIZER.encode(line) for line in LINES]
    one_by_one = line_log_probabilities(model, lines, TOKENIZER.eos_id, batch_tokens=1)
    together = line_log_probabilities(model, lines, TOKENIZER.eos_id)
    for a, b in zip(one_by_one, together, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_temperature_zero_takes_the_likeliest(model):
    ids = list(generate(model, [TOKENIZER.eos_id], tokens=12, temperature=0))
    state, last = model.initial_state(1), TOKENIZER.eos_id
    for token in ids:
        log_p, state = model.next_log_probabilities(torch.tensor([last]), state)
        assert token == int(log_p[0].argmax())
        last = token
    assert ids == list(generate(model, [TOKENIZER.eos_id], tokens=12, top_k=1, seed=8))


def test_equal_seeds_give_equal_text_and_others_another(model):
    texts = ["".join(stream(model, TOKENIZER, "the", tokens=30, seed=k)) for k in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_unknown_token_is_never_drawn_and_stop_ends_the_text(model):
    text = "".join(stream(model, TOKENIZER, tokens=300, temperature=3.0, seed=1))
    assert "<unk>" not in text
    line = "".join(stream(model, TOKENIZER, tokens=300, temperature=3.0, seed=1, stop="\n"))
    assert line == text.split("\n")[0]
    with pytest.raises(ArgumentError, match="not in the vocabulary"):
        stream(model, TOKENIZER, stop="zebra")


def test_draws_follow_the_distribution():
    log_p = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()
    p = truncated(log_p, temperature=0.5)
    expected = torch.tensor([0.25, 0.0625, 0.04, 0.0025], dtype=torch.float64)
    torch.testing.assert_close(p, expected / expected.sum(), rtol=1e-6, atol=0)
    assert truncated(log_p, top_k=3, top_p=0.6).count_nonzero() == 2
    assert truncated(log_p, top_p=1e-9).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"tokens": -1}]
)
def test_what_cannot_be_is_refused_at_the_call(model, wrong):
    with pytest.raises(ArgumentError):
        generate(model, [1], **wrong)


@torch.no_grad()
def test_the_next_tokens_are_the_likeliest(model):
    pairs = next_tokens(model, TOKENIZER, "the cat", 3)
    state = model.initial_state(1)
    for token in [TOKENIZER.eos_id, *TOKENIZER.encode("the cat")]:
        log_p, state = model.next_log_probabilities(torch.tensor([token]), state)
    best = log_p[0].exp().topk(3)
    assert [TOKENIZER.vocabulary[i] for i in best.indices] == [word for word, _ in pairs]
    torch.testing.assert_close(best.values, torch.tensor([p for _, p in pairs]))
