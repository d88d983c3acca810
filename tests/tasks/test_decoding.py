"""Searches for translations: against exhaustive search, against each other, within their bounds."""

from itertools import product

import numpy as np
import pytest
import torch

from recurra.data.parallel import ParallelText
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError
from recurra.models.softmax import IGNORED
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.translate.beam import beam_search
from recurra.tasks.translate.encoding import EncodedPairs, Tokenizers
from recurra.tasks.translate.metrics import corpus_metrics
from recurra.tasks.translate.search import Decoding, greedy, length_divisor, sample
from recurra.tasks.translate.task import TranslationTask
from recurra.tasks.translate.translation import score_pairs, translate_lines

WORDS = [f"w{i}" for i in range(9)]


def build(targets: int, spread: float = 1.5, **options: object) -> RecurrentTranslator:
    sizes = {"cell": "gru", "embedding_size": 5, "hidden_size": 6, "attention": "general"}
    model = RecurrentTranslator(11, targets, **{**sizes, **options})
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -spread, spread)
    return model.eval()


def sources(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(2, 11, (6, rows)), torch.randint(1, 7, (rows,))


def exhaustive(
    model: RecurrentTranslator,
    source: torch.Tensor,
    lengths: torch.Tensor,
    bound: int,
    alpha: float,
) -> list[tuple[float, list[int]]]:
    """Every translation of up to `bound` words with its score, the best first."""
    words = [i for i in range(model.softmax.weight.shape[0]) if i != 1]
    found = []
    for length in range(bound + 1):
        every = list(product(words, repeat=length))
        rows = len(every)
        all_ids = torch.tensor(every, dtype=torch.long).view(rows, length).t()
        ends = torch.ones(1, rows, dtype=torch.long)
        targets, inputs = torch.cat([all_ids, ends]), torch.cat([ends, all_ids])
        repeated = source.expand(-1, rows), lengths.expand(rows)
        log_p, _ = model.log_probabilities(*repeated, inputs, targets)
        scores = log_p.double().sum(0) / length_divisor(length + 1, alpha)
        found += list(zip(scores.tolist(), all_ids.t().tolist(), strict=True))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("options", [{}, {"input_feeding": True, "coverage": True}])
def test_a_beam_as_wide_as_the_space_finds_what_exhaustive_search_finds(alpha, options) -> None:
    model, (source, lengths) = build(5, **options), sources(2)
    bound = 4
    search = Decoding(beam_size=400, n_best=341, length_penalty=alpha)
    found = beam_search(model, source, lengths, [bound] * 2, search)
    for row, hypotheses in enumerate(found):
        own = source[: lengths[row], row : row + 1], lengths[row : row + 1]
        expected = exhaustive(model, *own, bound, alpha)
        assert len(hypotheses) == len(expected) == 341
        scores = [one.score for one in hypotheses]
        np.testing.assert_allclose(scores, [score for score, _ in expected], atol=1e-4)
        assert hypotheses[0].ids == expected[0][1]
        assert len({tuple(one.ids) for one in hypotheses}) == 341


def naive_beam(model, source, lengths, bound: int, beam: int) -> list[tuple[float, list[int]]]:
    """Beam search with lists, a hypothesis at a time."""
    memory = model.encode(source, lengths)
    alive, ended = [(0.0, [], model.start(memory))], []
    while alive and len(ended) < beam:
        every = []
        for total, ids, state in alive:
            last = torch.tensor([ids[-1] if ids else 1])
            log_p, _, after = model.next_log_probabilities(last, memory, state)
            allowed = range(log_p.shape[1]) if len(ids) < bound else [1]
            every += [(total + float(log_p[0, i]), [*ids, i], after) for i in allowed]
        every.sort(key=lambda one: -one[0])
        new = [(s, ids[:-1]) for s, ids, _ in every[:beam] if ids[-1] == 1]
        ended += new[: beam - len(ended)]
        alive = [one for one in every if one[1][-1] != 1][:beam]
    return sorted(ended, reverse=True)


@pytest.mark.parametrize("beam", [2, 3, 7])
def test_a_narrow_beam_is_the_naive_one(beam) -> None:
    model, (source, lengths) = build(8, 1.0), sources(12)
    bounds = [7, 3, 9] * 4
    search = Decoding(beam_size=beam, n_best=beam, length_penalty=0.0)
    found = beam_search(model, source, lengths, bounds, search)
    for row, hypotheses in enumerate(found):
        own = source[: lengths[row], row : row + 1], lengths[row : row + 1]
        with torch.no_grad():
            expected = naive_beam(model, *own, bounds[row], beam)
        assert [one.ids for one in hypotheses] == [ids for _, ids in expected]
        scores = [one.log_probability for one in hypotheses]
        np.testing.assert_allclose(scores, [score for score, _ in expected], atol=1e-4)


def test_a_beam_of_one_is_greedy() -> None:
    lengths_found = set()
    for options in ({}, {"attention": "none"}, {"coverage": True, "input_feeding": True}):
        for seed in range(4):
            torch.manual_seed(seed)
            model, (source, lengths) = build(20, 3.0, **options), sources(30)
            given = model, source, lengths, [12] * 30, Decoding(beam_size=1)
            one, beam = greedy(*given), beam_search(*given)
            assert [found[0].ids for found in beam] == [found.ids for found in one]
            for a, b in zip(beam, one, strict=True):
                assert a[0].score == pytest.approx(b.score, abs=1e-4)
            lengths_found |= {len(found.ids) for found in one}
    assert len(lengths_found) > 5  # some ended, some at the bound


def test_lengths_repetition_and_bounds_are_kept() -> None:
    model, (source, lengths) = build(9), sources(30)
    search = Decoding(beam_size=4, n_best=4, min_length=5, no_repeat_ngram=2)
    for found in beam_search(model, source, lengths, [8] * 30, search):
        assert found
        for one in found:
            assert 5 <= len(one.ids) <= 8
            pairs = list(zip(one.ids, one.ids[1:], strict=False))
            assert len(pairs) == len(set(pairs))
    assert Decoding(max_length=6, max_ratio=1.0).bounds(torch.tensor([1, 500]), 9.0) == [6, 6]


def test_the_coverage_penalty_is_its_formula() -> None:
    model, (source, lengths) = build(9), sources(5)
    search = Decoding(beam_size=3, n_best=3, coverage_penalty=0.4, length_penalty=0.6)
    for row, found in enumerate(beam_search(model, source, lengths, [6] * 5, search)):
        for one in found:
            looks = one.attention[:, : lengths[row]].sum(0).clamp_max(1.0)
            expected = one.log_probability / ((5 + len(one.ids) + 1) / 6) ** 0.6
            expected += 0.4 * looks.log().sum().item()
            assert one.score == pytest.approx(expected, rel=1e-5)
        assert found == sorted(found, key=lambda one: -one.score)


def test_draws_follow_their_seed_and_the_likeliest_alone_is_greedy() -> None:
    model, (source, lengths) = build(12), sources(20)
    given = model, source, lengths, [8] * 20
    first = sample(*given, Decoding(sample=True, seed=3))
    assert [a.ids for a in first] == [a.ids for a in sample(*given, Decoding(sample=True, seed=3))]
    assert [a.ids for a in first] != [a.ids for a in sample(*given, Decoding(sample=True, seed=4))]
    only = sample(*given, Decoding(sample=True, top_k=1))
    assert [a.ids for a in only] == [a.ids for a in greedy(*given, Decoding())]


@pytest.fixture
def words() -> tuple[RecurrentTranslator, Tokenizers]:
    tokenizer = Tokenizer.train([" ".join(WORDS)])
    return build(len(tokenizer.vocabulary)), Tokenizers(tokenizer, tokenizer)


def test_scores_of_given_translations_are_those_of_the_search(words) -> None:
    model, tokenizers = words
    lines = [" ".join(WORDS[i : i + 4]) for i in range(5)]
    options = Decoding(beam_size=3, length_penalty=0.0)
    found = [best[0] for best in translate_lines(model, tokenizers, lines, options)]
    text = ParallelText(lines, [" ".join(one.tokens) for one in found])
    for one, score in zip(found, score_pairs(model, tokenizers, text), strict=True):
        assert score.log_probability == pytest.approx(one.log_probability, abs=1e-4)
        assert score.tokens == len(one.tokens) + 1


def test_blank_and_equal_and_endless_and_unknown_lines(words) -> None:
    model, tokenizers = words
    endless = " ".join(WORDS * 1112)[: -len(" w8") * 8]  # 10,000 words
    assert len(endless.split()) == 10_000
    lines = ["", "w1 w2", "  ", endless, "w1 w2", "Zürich 東京"]
    for beam in (1, 3):
        options = Decoding(beam_size=beam, max_length=25)
        best = [found[0] for found in translate_lines(model, tokenizers, lines, options)]
        assert len(best) == len(lines)
        assert best[0].text == best[2].text == ""
        assert best[1] == best[4]
        assert all(len(one.tokens) <= 25 for one in best)
    assert translate_lines(model, tokenizers, [], Decoding()) == []


def test_unknown_words_are_replaced_by_what_they_looked_at(words) -> None:
    model, tokenizers = words
    with torch.no_grad():
        model.softmax.bias[0] = 50.0  # nothing but unknown words
    lines, options = ["w1 Zürich w3"], Decoding(beam_size=2, max_length=4)
    (found,) = translate_lines(model, tokenizers, lines, options, with_attention=True)[0]
    places = [place for place, _ in found.alignment()]
    assert found.text.split() == [lines[0].split()[place] for place in places]
    assert found.tokens == ["<unk>"] * 4
    assert found.attention.shape == (5, 4)
    np.testing.assert_allclose(found.attention.sum(1), 1, atol=1e-5)
    plain = translate_lines(model, tokenizers, lines, options, replace_unknown=False)[0][0]
    assert plain.text == "<unk> <unk> <unk> <unk>"
    with pytest.raises(ArgumentError, match="no attention"):
        plain.alignment()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size=0 must be at least 1"),
        ({"n_best": 6}, "n_best=6 is more than beam_size=5 keeps"),
        ({"sample": True, "n_best": 2}, "sampling gives one"),
        ({"length_penalty": -1.0}, "must not be negative"),
        ({"min_length": 9, "max_length": 5}, "min_length=9 is more than max_length=5"),
    ],
)
def test_senseless_searches_are_refused(options, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        Decoding(**options)


def test_metrics_are_sacrebleus_and_hand_computed() -> None:
    figures, signatures = corpus_metrics(["the cat sat", "a b"], ["the cat sat", "a c"])
    assert figures["exact_match"] == 0.5
    assert "tok:13a" in signatures["bleu"]
    assert "nc:6" in signatures["chrf"]
    four = corpus_metrics(["a b c d e"], ["a b c d f"])[0]["bleu"]
    assert four == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert corpus_metrics([], [])[0] == {"bleu": 0.0, "chrf": 0.0, "exact_match": 0.0}


def test_batches_are_a_function_of_epoch_and_index_and_ranks_share_them(words) -> None:
    model, tokenizers = words
    lines = [" ".join(WORDS[: 1 + i % 7]) for i in range(40)] + ["", "w1 " * 60]
    text = ParallelText(lines, lines[::-1])
    parts = {"train": text, "valid": text}
    task = TranslationTask(model, tokenizers, parts, batch_tokens=40, longest=50, seed=2)
    assert (task.pairs.too_long, task.pairs.empty) == (2, 2)
    first = [task.batch(1, i) for i in range(task.batches_per_epoch())]
    again = TranslationTask(model, tokenizers, parts, batch_tokens=40, longest=50, seed=2)
    for i in reversed(range(len(first))):
        other = again.batch(1, i)
        assert all(torch.equal(a, b) for a, b in zip(first[i][0], other[0], strict=True))
    assert sum(task.count(b) for b in first) == int(task.pairs.target.lengths.sum())
    whole = model.loss(*first[0][0])[1]
    shares = []
    for rank in range(2):
        again.shard(rank, 2)
        shares.append(again.training_step(again.batch(1, 0), None).loss)
    assert sum(shares).item() / 2 == pytest.approx(whole.item(), rel=1e-5)


def test_targets_end_and_inputs_begin_with_the_end_token(words) -> None:
    pairs = EncodedPairs(ParallelText(["w1", "w2 w3"], ["w4 w5", ""]), words[1])
    batch = pairs.batch(np.array([0, 1]))
    assert batch.targets[:, 1].tolist() == [1, IGNORED, IGNORED]
    assert batch.inputs[:, 0].tolist() == [1, *batch.targets[:2, 0].tolist()]
    assert batch.lengths.tolist() == [2, 3]
