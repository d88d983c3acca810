"""N-gram models: against a slow textbook implementation, hand-made cases and their properties."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import ArgumentError, DataError
from recurra.models.ngram import SMOOTHINGS, NGramModel, arpa
from recurra.models.ngram.counting import count

WORDS = ["<unk>", "<eos>", "a", "b", "c", "d", "e", "never"]
PROPER = [name for name in SMOOTHINGS if name not in ("stupid_backoff", "maximum_likelihood")]


def _text(lines: int = 300, seed: int = 0) -> np.ndarray:
    """Lines of skewed words with a dependence on the word before; one line in ten is empty."""
    random = np.random.default_rng(seed)
    tokens: list[int] = []
    for k in range(lines):
        word = 2
        for _ in range(0 if k % 10 == 0 else random.integers(1, 9)):
            word = int((word + random.choice([0, 1, 1, 2, 4])) % 5) + 2
            if random.random() < 0.1:
                word = int(random.integers(0, 7))
            tokens.append(word if word != 1 else 2)
        tokens.append(1)
    return np.array(tokens, np.int32)


def _lines(tokens: np.ndarray) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for token in tokens.tolist():
        found[-1].append(token)
        if token == 1:
            found.append([])
    return found[:-1]


def _textbook_kneser_ney(tokens: np.ndarray, order: int, vocabulary_size: int):
    """Chen & Goodman's equations with dictionaries of tuples; p(word, context)."""
    begin = -1
    raw: list[Counter] = [Counter() for _ in range(order + 1)]
    for line in _lines(tokens):
        sentence = [begin, *line]
        for k in range(1, order + 1):
            for i in range(len(sentence) - k + 1):
                raw[k][tuple(sentence[i : i + k])] += 1
    adjusted: list[Counter] = [Counter() for _ in range(order + 1)]
    adjusted[order] = raw[order]
    for k in range(1, order):
        for gram in raw[k + 1]:
            adjusted[k][gram[1:]] += 1
        for gram, n in raw[k].items():
            if gram[0] == begin:
                adjusted[k][gram] = n
    del adjusted[1][(begin,)]
    discounts = []
    for k in range(1, order + 1):
        n = Counter(adjusted[k].values())
        d = [0.0, 0.5, 1.0, 1.5]
        if min(n[r] for r in (1, 2, 3, 4)) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            closed = [0.0, *(r - (r + 1) * y * n[r + 1] / n[r] for r in (1, 2, 3))]
            d = closed if all(0 <= closed[r] <= r for r in range(4)) else d
        discounts.append(d)
    followers = [defaultdict(dict) for _ in range(order + 1)]
    for k in range(1, order + 1):
        for gram, a in adjusted[k].items():
            followers[k][gram[:-1]][gram[-1]] = a

    def probability(word: int, context: tuple[int, ...]) -> float:
        k = len(context) + 1
        lower = probability(word, context[1:]) if context else 1 / vocabulary_size
        seen = followers[k].get(context)
        if not seen:
            return lower
        total, d = sum(seen.values()), discounts[k - 1]
        a = seen.get(word, 0)
        gamma = sum(d[min(n, 3)] for n in seen.values()) / total
        return (a - d[min(a, 3)]) / total + gamma * lower

    return probability


def _zipf_text(lines: int, seed: int) -> np.ndarray:
    """200 words by Zipf's law, so that every order has n-grams seen 1, 2, 3 and 4 times."""
    random = np.random.default_rng(seed)
    drawn = np.minimum(random.zipf(1.3, (lines, 8)), 200) + 1
    return np.append(drawn, np.ones((lines, 1), int), axis=1).ravel().astype(np.int32)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("is_large", [True, False])
def test_kneser_ney_equals_the_textbook(order: int, is_large: bool) -> None:
    make, words = (_zipf_text, [*map(str, range(202))]) if is_large else (_text, WORDS)
    tokens, test = make(300, 0), make(60, 1)
    model = NGramModel.train(tokens, words, order)
    probability = _textbook_kneser_ney(tokens, order, len(words))
    expected = []
    for line in _lines(test):
        sentence = [-1, *line]
        for i in range(1, len(sentence)):
            context = tuple(sentence[max(0, i - order + 1) : i])
            expected.append(math.log(probability(sentence[i], context)))
    np.testing.assert_allclose(model.log_probabilities(test), expected, rtol=0, atol=2e-6)


def test_witten_bell_by_hand() -> None:
    """'a b', 'a c': p(b|a) = (1 + 2·p(b)) / 4 with p(b) = (1 + 4/5) / 10."""
    model = NGramModel.train(
        np.array([2, 3, 1, 2, 4, 1]), ["<unk>", "<eos>", "a", "b", "c"], 2, "witten_bell"
    )
    p = np.exp(model.log_probabilities(np.array([2, 3, 1])))
    np.testing.assert_allclose(p, [0.76, 0.34, 0.64], rtol=1e-6)


def test_additive_and_maximum_likelihood_by_hand() -> None:
    tokens, words = np.array([2, 3, 1, 2, 4, 1]), ["<unk>", "<eos>", "a", "b", "c"]
    laplace = NGramModel.train(tokens, words, 2, "add_k", add_k=1.0)
    p = np.exp(laplace.log_probabilities(np.array([2, 3, 1])))
    np.testing.assert_allclose(p, [3 / 7, 2 / 7, 2 / 6], rtol=1e-6)
    unseen = np.exp(laplace.log_probabilities(np.array([0, 0, 1])))
    np.testing.assert_allclose(unseen, [1 / 7, 1 / 5, 1 / 5], rtol=1e-6)
    likelihood = NGramModel.train(tokens, words, 2, "maximum_likelihood")
    p = np.exp(likelihood.log_probabilities(np.array([2, 3, 1])))
    np.testing.assert_allclose(p, [1, 0.5, 1], rtol=1e-6)
    assert likelihood.perplexity(np.array([3, 1])) == math.inf


def test_stupid_backoff_by_hand() -> None:
    tokens, words = np.array([2, 3, 1, 2, 4, 1]), ["<unk>", "<eos>", "a", "b", "c"]
    model = NGramModel.train(tokens, words, 2, "stupid_backoff")
    scores = np.exp(model.log_probabilities(np.array([2, 2, 1])))
    np.testing.assert_allclose(scores, [1, 0.4 * 2 / 6, 0.4 * 2 / 6], rtol=1e-6)


def test_katz_discounts_small_counts_and_gives_the_rest_to_the_unseen() -> None:
    tokens, words = _zipf_text(1000, 0), [*map(str, range(202))]
    model = NGramModel.train(tokens, words, 2, "katz")
    likelihood = NGramModel.train(tokens, words, 2, "maximum_likelihood")
    bigrams = Counter(
        pair for line in _lines(tokens) for pair in itertools.pairwise(line) if pair[0] == 2
    )
    for (_, word), n in bigrams.items():
        p = model.next_log_probabilities([2])[word]
        q = likelihood.next_log_probabilities([2])[word]
        assert (p == pytest.approx(q, abs=1e-5)) if n > 5 else (p < q)
    assert min(bigrams.values()) == 1
    assert max(bigrams.values()) > 5


@pytest.mark.parametrize("smoothing", PROPER)
@settings(max_examples=20, deadline=None)
@given(
    context=st.lists(st.sampled_from([0, 2, 3, 4, 5, 6, 7]), max_size=5), order=st.integers(1, 4)
)
def test_probabilities_sum_to_one_after_any_context(
    smoothing: str, context: list[int], order: int
) -> None:
    model = NGramModel.train(_text(), WORDS, order, smoothing)
    p = np.exp(model.next_log_probabilities(context).astype(np.float64))
    assert p.sum() == pytest.approx(1, abs=2e-6)
    line = np.array([*context, 3, 1], np.int32)
    assert model.log_probabilities(line)[len(context)] == pytest.approx(
        model.next_log_probabilities(context)[3], abs=1e-5
    )


def test_a_context_starts_anew_after_each_line() -> None:
    model = NGramModel.train(_text(), WORDS, 3)
    one = model.log_probabilities(np.array([2, 3, 1]))
    two = model.log_probabilities(np.array([4, 5, 1, 2, 3, 1]))
    np.testing.assert_array_equal(one, two[3:])
    np.testing.assert_array_equal(
        model.next_log_probabilities([4, 1, 2]), model.next_log_probabilities([2])
    )


@settings(max_examples=15, deadline=None)
@given(lines=st.integers(1, 60), order=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_bound_on_memory_changes_nothing(lines: int, order: int, seed: int) -> None:
    """The bound's chunk is made small by hand: 50 positions, so that many runs are merged."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from recurra.models.ngram import counting

    tokens = _text(lines, seed)
    whole = count(tokens, len(WORDS), order, 1)
    stream = counting.with_begins(tokens, 1, len(WORDS))
    with TemporaryDirectory() as folder:
        pieces = counting._count(stream, len(WORDS), order, 50, Path(folder))
    for name in ("words", "prefixes", "suffixes", "counts", "begins"):
        for a, b in zip(getattr(whole, name), getattr(pieces, name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_bounded_training_gives_the_same_model() -> None:
    tokens = _text(4000)
    whole = NGramModel.train(tokens, WORDS, 3)
    bounded = NGramModel.train(tokens, WORDS, 3, memory_bytes=1 << 20)
    np.testing.assert_array_equal(whole.log_probabilities_, bounded.log_probabilities_)
    np.testing.assert_array_equal(whole.log_weights, bounded.log_weights)


def test_files_give_the_model_back(tmp_path) -> None:
    model = NGramModel.train(_text(), WORDS, 3)
    test = _text(30, seed=2)
    model.save(tmp_path / "model.safetensors")
    again = NGramModel.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.log_probabilities(test), model.log_probabilities(test))
    assert again.vocabulary == WORDS
    for name in ("model.arpa", "model.arpa.gz"):
        arpa.write(model, tmp_path / name)
        again = arpa.read(tmp_path / name)
        ids = np.array([again.vocabulary.index(word) for word in WORDS])
        np.testing.assert_allclose(
            again.log_probabilities(ids[test]), model.log_probabilities(test), atol=3e-6
        )
    assert not list(tmp_path.glob("*.partial"))


def test_an_arpa_file_of_another_tool_is_read(tmp_path) -> None:
    path = tmp_path / "other.arpa"
    path.write_text(
        "made by hand\n\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\t-0.5\n"
        "-0.3\ta\t-0.2\n-0.6\t</s>\n\n\\2-grams:\n-0.1\t<s> a\n-0.25\ta </s>\n\n\\end\\\n"
    )
    model = arpa.read(path)
    a = model.vocabulary.index("a")
    log10 = model.log_probabilities(np.array([a, a, 1])) / math.log(10)
    np.testing.assert_allclose(log10, [-0.1, -0.2 - 0.3, -0.25], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", r"is no ARPA file"),
        ("\\data\\\nngram 1=x\n", r"line 2: expected 'ngram ORDER=SIZE'"),
        (
            "\\data\\\nngram 1=1\n\n\\1-grams:\n-1 a b c d\n",
            r"line 5: expected a probability, 1 words",
        ),
        ("\\data\\\nngram 1=2\n\n\\1-grams:\n-1\ta\n\\end\\\n", r"line 6: .* after 1 of 2 1-grams"),
        ("\\data\\\nngram 1=1\n\n\\1-grams:\nx\ta\n\\end\\\n", r"line 5: could not convert"),
        ("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\ta\n", r"'\\end\\' is missing"),
        (
            "\\data\\\nngram 1=1\nngram 2=1\n\n\\1-grams:\n-1\ta\n\n\\2-grams:\n-1\ta z\n\\end\\\n",
            r"line 9: 'z' is not among the 1-grams",
        ),
    ],
)
def test_a_damaged_arpa_file_names_file_and_line(tmp_path, content: str, message: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        arpa.read(path)
    assert "bad.arpa" in str(error.value)


def test_what_cannot_be_is_refused(tmp_path) -> None:
    tokens = _text()
    with pytest.raises(ArgumentError, match="smoothing 'kn' is unknown"):
        NGramModel.train(tokens, WORDS, 3, "kn")
    with pytest.raises(ArgumentError, match="order=0"):
        NGramModel.train(tokens, WORDS, 0)
    with pytest.raises(ArgumentError, match="memory_bytes=5 is too small"):
        NGramModel.train(tokens, WORDS, 2, memory_bytes=5)
    with pytest.raises(DataError, match="has no tokens"):
        NGramModel.train(tokens[:0], WORDS, 2)
    with pytest.raises(DataError, match="outside the vocabulary of 3"):
        NGramModel.train(tokens, WORDS[:3], 2)
    with pytest.raises(ArgumentError, match="has no ARPA form"):
        arpa.write(NGramModel.train(tokens, WORDS, 3, "add_k"), tmp_path / "a.arpa")
    (tmp_path / "broken").write_bytes(b"no model")
    with pytest.raises(DataError, match="cannot be read as an n-gram model"):
        NGramModel.load(tmp_path / "broken")


def test_sparsity_counts_what_was_never_seen() -> None:
    model = NGramModel.train(_text(), WORDS, 3)
    rows = model.sparsity(_text())
    assert [row["order"] for row in rows] == [1, 2, 3]
    assert all(row["unseen_share"] == 0 for row in rows)
    rows = model.sparsity(np.array([7, 7, 1]))
    assert [row["unseen_share"] for row in rows] == [0, 1, 1]
    assert rows[0]["matched_share"] == 1
    assert rows[0]["ngrams"] == len(WORDS)
