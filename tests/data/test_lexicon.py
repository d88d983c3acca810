"""Lexicons, encoded sentences, batches by length, vectors and the embedded data."""

import numpy as np
import pytest
import torch

from recurra.data import python_roles
from recurra.data.encoded_sentences import UNSEEN, EncodedSentences
from recurra.data.length_batches import LengthBatches, by_length
from recurra.data.lexicon import Lexicon
from recurra.data.spelling import LONGEST_WORD, Alphabet
from recurra.data.tagged_text import TaggedText
from recurra.data.vectors import read_vectors
from recurra.data.word_tokens import sentences
from recurra.errors import ArgumentError, DataError

TEXT = TaggedText(
    [["The", "cat", "sat"], [], ["the", "mat"]],
    [["O", "I-X", "I-X"], [], ["O", "I-Y"]],
    "toy",
)


def test_lexicons_learn_write_and_read(tmp_path) -> None:
    lexicon = Lexicon.train(TEXT, lowercase=True, minimum_count=2, further_words=["dog", "the"])
    assert lexicon.words == ["<unk>", "the", "dog"]
    assert lexicon.counts == [0, 2, 0]
    assert (lexicon.source_scheme, lexicon.scheme) == ("iob1", "bio")
    assert lexicon.tags == ["O", "B-X", "I-X", "B-Y", "I-Y"]
    assert lexicon.encode_tags(["O", "I-X", "I-X", "I-Z"]) == [0, 1, 2, None]
    assert lexicon.decode_tags([0, 1, 2]) == ["O", "I-X", "I-X"]
    lexicon.save(tmp_path / "vocabulary.json")
    again = Lexicon.load(tmp_path / "vocabulary.json")
    assert again.to_json() == lexicon.to_json()
    assert again.word_id("The") == 1


def test_lexicons_refuse_what_cannot_be(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="scheme=bioes: the tags of toy hold no entities"):
        Lexicon.train(TaggedText([["a"]], [["N"]], "toy"), scheme="bioes")
    with pytest.raises(ArgumentError, match="minimum_count=0"):
        Lexicon.train(TEXT, minimum_count=0)
    with pytest.raises(DataError, match="no word in any sentence"):
        Lexicon.train(TaggedText([[]], [[]]))
    for content in ("no json", "[]", '{"format": "other"}', '{"format": "recurra-lexicon-1"}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=r"bad\.json"):
            Lexicon.load(tmp_path / "bad.json")


def test_words_are_spelled_and_long_ones_keep_both_ends() -> None:
    alphabet = Alphabet.train(["aab𝔸", "\udc80"])  # beyond 16 bits, and no character at all
    assert alphabet.characters == ["<unk>", "a", "b", "\udc80", "𝔸"]
    long = "a" * 30 + "xb" * 30
    characters, lengths = alphabet.spell(["𝔸b", "", long, "\uffff\udc80"])
    assert lengths.tolist() == [2, 0, LONGEST_WORD, 2]
    assert characters[0].tolist() == [4, 2] + [0] * 30
    assert characters[2].tolist() == [1] * 16 + [0, 2] * 8
    assert characters[3, :2].tolist() == [0, 3]
    assert not characters[1].any()
    assert Alphabet(["<unk>"]).spell(["ab"])[0].tolist() == [[0, 0]]


def test_sentences_are_encoded_ragged_and_unseen_tags_counted() -> None:
    lexicon = Lexicon.train(TEXT, scheme=None)
    encoded = EncodedSentences([["the", "cat"], [], ["dog"]], lexicon, tags=[["O", "Z"], [], ["Z"]])
    words = encoded.batch(np.array([2, 0, 1]))
    assert words.lengths.tolist() == [1, 2, 0]
    read = words.ids[words.places]
    inside = torch.arange(2).unsqueeze(1) < words.lengths
    assert read[inside].tolist() == [0, lexicon.word_id("the"), lexicon.word_id("cat")]
    assert encoded.tag_batch(np.array([2, 0, 1]))[:, 1].tolist() == [lexicon.tag_id("O"), UNSEEN]
    assert encoded.unseen == {"Z": 2}
    empty = encoded.batch(np.array([1, 1]))
    assert empty.places.shape == (1, 2)
    assert empty.lengths.tolist() == [0, 0]


def test_long_sentences_are_cut() -> None:
    lexicon = Lexicon.train(TEXT)
    encoded = EncodedSentences([["a"] * 7, [], ["b"]], lexicon, longest=3)
    assert encoded.lengths.tolist() == [3, 3, 1, 0, 1]
    assert encoded.sentence.tolist() == [0, 0, 0, 1, 2]


def test_batches_hold_every_sentence_once_and_repeat_by_seed() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 200)
    batches = LengthBatches(lengths, 100, seed=3)
    same = LengthBatches(lengths, 100, seed=3)
    seen = [batches.pieces(epoch, i) for epoch in (0, 1) for i in range(len(batches))]
    for epoch in (0, 1):
        own = seen[epoch * len(batches) : (epoch + 1) * len(batches)]
        assert sorted(np.concatenate(own)) == list(range(200))
        assert all(np.array_equal(same.pieces(epoch, i), own[i]) for i in reversed(range(len(own))))
    assert not np.array_equal(seen[0], seen[len(batches)])
    padded = [len(own) * lengths[own].max() for own in seen]
    assert max(padded) <= 150
    assert sum(padded) < 1.3 * 2 * lengths.sum()
    assert sorted(np.concatenate(by_length(lengths, 100))) == list(range(200))
    with pytest.raises(ArgumentError, match=f"batch {len(batches)} of"):
        batches.pieces(0, len(batches))


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_vectors_of_every_format(tmp_path, header: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(f"{header}the 1 2\nNew York 3 4\nrare 5 6\n")
    words, vectors = read_vectors(path, {"New York"}, most=1)
    assert words == ["the", "New York"]
    assert vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2\ncat 1\n", r"line 2: .*1 numbers|line 2: 1 numbers after the word, expected 2"),
        ("the 1 2\ncat 1 x\n", r"line 2: could not convert"),
        ("the 1 nan\n", r"line 1: 2 numbers after the word, expected 2 finite"),
        ("the\n", r"line 1: expected a word and its numbers"),
    ],
)
def test_wrong_vectors_are_named_with_their_line(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_vectors(path)
    path.write_text("the 1 2\n")
    with pytest.raises(DataError, match="has a vector for none"):
        read_vectors(path, {"dog"})


def test_raw_text_is_cut_into_sentences() -> None:
    cut = list(sentences("See https://a.b/c?d=1, @me #now: it's 10:30. Isn't it? Yes!"))
    assert cut == [
        ["See", "https://a.b/c?d=1", ",", "@me", "#now", ":", "it", "'s", "10:30", "."],
        ["Is", "n't", "it", "?"],
        ["Yes", "!"],
    ]


def test_roles_are_those_of_the_syntax_tree() -> None:
    source = (
        "from os import path as p\n"
        "class A(Base, metaclass=M):\n"
        "    x: int = 3\n"
        "    @wraps(f)\n"
        "    async def g(self, *, y=None) -> Set[str]:\n"
        "        self.z = y.w if y else f(y, k=1)\n"
        "        raise ValueError('no') from e\n"
    )
    found = [dict(zip(*sentence, strict=True)) for sentence in python_roles.label(source)]
    assert found[0] == {"from": "keyword", "os": "module", "import": "keyword", "path": "import",
                        "as": "keyword", "p": "alias"}  # fmt: skip
    assert (found[1]["A"], found[1]["Base"], found[1]["metaclass"]) == ("class", "base", "argument")
    assert (found[2]["x"], found[2]["int"]) == ("target", "annotation")
    assert (found[3]["wraps"], found[3]["f"]) == ("decorator", "variable")
    assert (found[4]["g"], found[4]["y"], found[4]["str"]) == ("method", "parameter", "annotation")
    assert (found[5]["z"], found[5]["w"], found[5]["k"]) == ("field", "attribute", "argument")
    assert (found[6]["ValueError"], found[6]["e"]) == ("exception", "variable")
