"""Words, byte pairs, characters: round trips, order of ids, files and errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import Tokenizer
from recurra.data.tokenizer import KINDS
from recurra.errors import ArgumentError, DataError

LINE = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40)
TEXT = ["the cat sat on the mat .", "the dog sat on the log .", "", "größer als der hund"] * 5
BPE = Tokenizer.train(TEXT, "bpe", vocabulary_size=300)


@given(st.lists(LINE, min_size=1, max_size=4).filter(any))
def test_characters_come_back_exactly(lines: list[str]) -> None:
    tokenizer = Tokenizer.train(lines, "char")
    assert tokenizer.decode(tokenizer.encode_lines(lines)) == "\n".join([*lines, ""])


@given(LINE)
def test_byte_pairs_bring_any_text_back_exactly(line: str) -> None:
    ids = BPE.encode(line)
    assert BPE.decode(ids) == line
    assert not {BPE.unknown_id, BPE.eos_id} & set(ids)


@pytest.mark.parametrize("line", ["<eos>", "a <unk> b", " two  spaces ", "\r\ttab", "𝄞 e\u0301"])
def test_byte_pairs_bring_special_looking_text_back(line: str) -> None:
    assert BPE.decode(BPE.encode(line)) == line


@given(st.lists(LINE, min_size=1, max_size=4).filter(lambda lines: any(" ".join(lines).split())))
def test_words_come_back_up_to_white_space(lines: list[str]) -> None:
    tokenizer = Tokenizer.train(lines, "word")
    for line in lines:
        assert tokenizer.decode(tokenizer.encode(line)) == " ".join(line.split())


@given(st.lists(LINE, max_size=6))
def test_encoding_lines_is_encoding_each_and_ending_it(lines: list[str]) -> None:
    for kind in KINDS:
        tokenizer = Tokenizer.train(TEXT, kind)
        expected = [i for line in lines for i in (*tokenizer.encode(line), tokenizer.eos_id)]
        encoded = tokenizer.encode_lines(lines)
        assert encoded.dtype == np.int32
        assert encoded.tolist() == expected


def test_batches_join_to_the_whole() -> None:
    lines = ["a b", "c"] * 15_000
    tokenizer = Tokenizer.train(lines)
    batches = list(tokenizer.encode_batches(iter(lines)))
    assert len(batches) == 3
    assert np.array_equal(np.concatenate(batches), tokenizer.encode_lines(lines))


def test_ids_follow_counts_and_then_the_alphabet() -> None:
    tokenizer = Tokenizer.train(["b a c c", "d d d <unk> <unk> <eos>"])
    assert tokenizer.vocabulary == ["<unk>", "<eos>", "d", "c", "a", "b"]
    shuffled = Tokenizer.train(["d d <eos> c", "<unk> c d a b"])
    assert shuffled.vocabulary == tokenizer.vocabulary


def test_rare_words_and_those_past_the_size_are_unknown() -> None:
    lines = ["a a a b b c"]
    assert Tokenizer.train(lines, minimum_count=2).vocabulary == ["<unk>", "<eos>", "a", "b"]
    small = Tokenizer.train(lines, vocabulary_size=3)
    assert small.encode("a b zebra") == [2, small.unknown_id, small.unknown_id]


def test_a_literal_unk_is_the_unknown_word() -> None:
    for options in ({}, {"split_punctuation": True}, {"lowercase": True}):
        tokenizer = Tokenizer.train(["a <unk> b"], **options)
        assert tokenizer.encode("<unk> a")[0] == tokenizer.unknown_id


def test_punctuation_and_case_are_folded_only_when_asked() -> None:
    line = "Don't @-@ (stop), <unk>!"
    assert Tokenizer.train([line]).tokens(line) == line.split()
    folding = Tokenizer.train([line], lowercase=True, split_punctuation=True)
    expected = ["don", "'", "t", "@", "-", "@", "(", "stop", ")", ",", "<unk>", "!"]
    assert folding.tokens(line) == expected


def test_byte_pairs_are_trained_to_the_same_pieces_each_time() -> None:
    again = Tokenizer.train(TEXT, "bpe", vocabulary_size=300)
    assert again.to_json() == BPE.to_json()
    assert len(Tokenizer.train(TEXT, "bpe", vocabulary_size=280).vocabulary) == 280
    assert len(BPE.encode("the cat")) < len("the cat")


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_loads_as_it_was(kind: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(TEXT, kind, lowercase=True)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.encode("The cat, größer <eos>") == tokenizer.encode("The cat, größer <eos>")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", json.dumps({"format": "other"}), "\udcff"]
)
def test_a_foreign_or_damaged_tokenizer_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.load(path)


def test_a_damaged_byte_pair_model_is_refused(tmp_path: Path) -> None:
    content = json.loads(BPE.to_json())
    del content["bpe"]["model"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not a tokenizer file"):
        Tokenizer.load(path)


def test_a_missing_tokenizer_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="FileNotFoundError"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'words' is unknown; use one of word, bpe, char"):
        Tokenizer.train(["a"], "words")
    with pytest.raises(ArgumentError, match="use 3 or more"):
        Tokenizer.train(["a"], vocabulary_size=2)
    with pytest.raises(ArgumentError, match="use 258 or more"):
        Tokenizer.train(["a"], "bpe", vocabulary_size=100)
    with pytest.raises(ArgumentError, match="minimum_count=0"):
        Tokenizer.train(["a"], minimum_count=0)


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="no word that occurs 1 times or more"):
        Tokenizer.train(["", "  "])
    with pytest.raises(DataError, match="no char that occurs 5 times or more"):
        Tokenizer.train(["abc"], "char", minimum_count=5)
