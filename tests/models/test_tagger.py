"""The tagger: padding, order, characters, unknown words, vectors, streaming."""

import json

import pytest
import torch
from torch import Tensor

from recurra.data.spans import allowed_transitions
from recurra.errors import ArgumentError, ShapeError
from recurra.models.tagger import RecurrentTagger, Words

LENGTHS = torch.tensor([3, 0, 5, 1])
SPELLED = torch.tensor([4, 1, 6, 2, 3, 5])


def _words() -> Words:
    places = torch.randint(0, len(SPELLED), (5, len(LENGTHS)))
    characters = torch.randint(1, 9, (6, len(SPELLED)))
    return places, LENGTHS, torch.tensor([1, 0, 5, 7, 2, 3]), characters, SPELLED


def _tags(words: Words) -> Tensor:
    inside = torch.arange(5).unsqueeze(1) < LENGTHS
    return torch.randint(0, 3, words[0].shape).masked_fill(~inside, -100)


def _model(**options) -> RecurrentTagger:
    sizes = {"embedding_size": 4, "hidden_size": 5, "character_size": 6}
    return RecurrentTagger(8, 9, 3, character_embedding_size=3, **{**sizes, **options})


VARIANTS = [
    {},
    {"crf": True, "allowed": allowed_transitions(["O", "B-X", "I-X"], "bio")},
    {"cell": "gru", "character_encoder": "convolutional", "num_layers": 2, "affix_size": 3},
    {"cell": "rnn", "character_encoder": "none", "bidirectional": False, "residual": False},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_padding_is_never_read(options: dict) -> None:
    model, words = _model(**options), _words()
    tags = _tags(words)
    loss, answer = model.loss(words, tags), model.predict(words)
    outside = torch.arange(5).unsqueeze(1) >= LENGTHS
    unspelled = torch.arange(6).unsqueeze(1) >= SPELLED
    other = (words[0].masked_fill(outside, 3), LENGTHS, words[2],
             words[3].masked_fill(unspelled, 8), SPELLED)  # fmt: skip
    torch.testing.assert_close(model.loss(other, tags), loss)
    again = model.predict(other)
    assert torch.equal(again.tags, answer.tags)
    torch.testing.assert_close(again.confidence, answer.confidence)
    assert answer.tags[outside].eq(0).all()
    assert answer.confidence[outside].eq(0).all()
    assert answer.confidence[~outside].gt(0).all()


@pytest.mark.parametrize("options", VARIANTS)
def test_rows_do_not_depend_on_each_other(options: dict) -> None:
    model, words = _model(**options), _words()
    emissions = model.emissions(words)
    for row, length in enumerate(LENGTHS.tolist()):
        if length:
            alone = (words[0][:length, row : row + 1], LENGTHS[row : row + 1], *words[2:])
            torch.testing.assert_close(model.emissions(alone)[:, 0], emissions[:length, row])


@pytest.mark.parametrize("options", VARIANTS)
def test_every_weight_gets_a_gradient_and_options_make_the_model_anew(options: dict) -> None:
    model, words = _model(**options), _words()
    model.loss(words, _tags(words)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.layers.parameters())
    again = RecurrentTagger(**json.loads(json.dumps(model.options())))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.predict(words).tags, model.predict(words).tags)


def test_one_answer_a_step_is_that_of_the_whole_sentence() -> None:
    model, words = _model(bidirectional=False, num_layers=2), _words()
    expected = model.emissions(words).log_softmax(-1)
    state = None
    for t, places in enumerate(words[0][:, 2]):
        one = places.view(1)
        log_p, state = model.step(words[2][one], words[3][:, one], SPELLED[one], state)
        torch.testing.assert_close(log_p[0], expected[t, 2])
    for options in ({}, {"crf": True, "bidirectional": False}):
        with pytest.raises(ArgumentError, match="only with bidirectional=False and crf=False"):
            _model(**options).step(words[2][:1], words[3][:, :1], SPELLED[:1])


def test_rare_words_are_read_as_unknown_in_training_only() -> None:
    model, words = _model(unknown_dropout=1.0), _words()
    read = words[0], words[2:]
    assert torch.equal(model.words(*read), model.words(*read))  # counts are not known
    model.words.count_words([0, 0, 10**9, 10**9, 1, 1, 1, 1])
    ids = torch.tensor([1, 2, 3, 5]).repeat(4000)
    shares = model.words._with_unknown(ids).view(-1, 4).eq(0).float().mean(0)
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.0, 0.0, 0.5]), atol=0.04, rtol=0)
    model.eval()
    assert torch.equal(model.words._with_unknown(ids), ids)


def test_pretrained_vectors_start_words_and_may_stay() -> None:
    model, words = _model(), _words()
    vectors = torch.randn(2, 4)
    model.words.set_vectors(torch.tensor([5, 7]), vectors, trained=False)
    weight = model.words.own.weight
    torch.testing.assert_close(weight[5] / weight[5].norm(), vectors[0] / vectors[0].norm())
    model.loss(words, _tags(words)).backward()
    assert weight.grad is None
    with pytest.raises(ShapeError, match=r"expected \(1, 4\)"):
        model.words.set_vectors(torch.tensor([5]), torch.zeros(1, 3))


def test_dropout_works_in_training_only() -> None:
    options = {"input_dropout": 0.5, "dropout": 0.5, "hidden_dropout": 0.5, "num_layers": 2}
    model, words = _model(**options, recurrent_dropout=0.3, weight_dropout=0.2), _words()
    assert not torch.equal(model.emissions(words), model.emissions(words))
    model.eval()
    assert torch.equal(model.emissions(words), model.emissions(words))


def test_mixed_precision_sums_in_float32() -> None:
    model, words = _model(crf=True), _words()
    tags = _tags(words)
    expected = model.loss(words, tags)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(words, tags)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.01, atol=0.01)
    loss.backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0 must be at least 1"),
        ({"dropout": 1.5}, r"dropout=1.5 is no probability"),
        ({"unknown_dropout": -1.0}, "unknown_dropout=-1.0 must not be negative"),
        ({"character_encoder": "bytes"}, "'bytes' is unknown; use one of recurrent"),
        ({"character_size": 5}, "character_size=5 must be even"),
    ],
)
def test_wrong_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _model(**options)
