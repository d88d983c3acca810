"""Tagged files: CoNLL-U, columns, and everything that may be wrong with them."""

import gzip

import pytest

from recurra.data.columns import parse_tagged, read_tagged
from recurra.data.tagged_text import TaggedText, split_sentences
from recurra.errors import DataError

CONLLU = """\
# newdoc
# sent_id = 1
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
2.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_
3\tNew York\tNew York\tPROPN\tNNP\t_\t1\tobj\t_\t_

# sent_id = 2
1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_
"""


def _parse(text: str, column: str | int | None = None, *, tagged: bool = True):
    return list(parse_tagged(text.split("\n"), "a.conll", column, tagged=tagged))


def test_conllu_skips_multiword_tokens_and_empty_nodes() -> None:
    assert _parse(CONLLU) == [
        (["do", "n't", "New York"], ["AUX", "PART", "PROPN"]),
        (["#"], ["SYM"]),
    ]
    assert _parse(CONLLU, "XPOS")[0][1] == ["VBP", "RB", "NNP"]
    assert _parse(CONLLU, 7)[0][1] == ["root", "advmod", "obj"]


def test_columns_between_blanks_or_tabs() -> None:
    blanks = "-DOCSTART- -X- -X- O\n\nEU NNP I-NP  B-ORG \n \t\n. . O O\n"
    assert _parse(blanks) == [(["EU"], ["B-ORG"]), (["."], ["O"])]
    assert _parse(blanks, "chunk") == [(["EU"], ["I-NP"]), (["."], ["O"])]
    tabs = "#topic\tO\nNew York\tB-location\n\t\n#\tO"
    assert _parse(tabs) == [(["#topic", "New York"], ["O", "B-location"]), (["#"], ["O"])]
    assert _parse(tabs, -1) == _parse(tabs, "tag") == _parse(tabs, "1")


def test_words_alone_can_be_read() -> None:
    assert _parse("one\ntwo\n\nthree", tagged=False) == [
        (["one", "two"], ["", ""]),
        (["three"], [""]),
    ]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("a N\nb\n", None, r"a.conll, line 2: 1 columns, expected 2 as in line 1 \(got 'b'\)"),
        ("\n\na N\n\nb N x\n", None, r"line 5: 3 columns, expected 2 as in line 3"),
        ("a N\n", "ner", r"no column 'ner' among its 2; use word, tag, or a number from 0 to 1"),
        ("a N\n", 2, r"no column 2 among its 2"),
        ("alone\n", None, r"line 1: 1 column, expected a word and its tag"),
        ("\n \n", None, r"no line with a word in it"),
        ("-DOCSTART- O\n", None, r"no line with a word in it"),
        ("a\tN\n\tN\n", None, r"line 2: the word is empty"),
        (CONLLU + "x\t" * 9 + "\n", None, r"line 11: id 'x' is none of CoNLL-U"),
        (CONLLU + "2\tb\tb\tNOUN\n", None, r"line 11: 4 columns, expected 10"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, column, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _parse(text, column)


def test_files_are_found_and_wrong_encodings_named(tmp_path) -> None:
    (tmp_path / "a.conll").write_text("a N\n")
    with gzip.open(tmp_path / "b.conll.gz", "wt", encoding="utf-8") as file:
        file.write("ü V\n")
    assert read_tagged([tmp_path]).words == [["a"], ["ü"]]
    (tmp_path / "c.conll").write_bytes("a N\nü V\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"c\.conll, line 2: byte 0xfc at column 1 is not UTF-8"):
        read_tagged([tmp_path / "c.conll"])
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        read_tagged([tmp_path / "empty"])


def test_texts_must_fit_and_be_long_enough_to_split() -> None:
    with pytest.raises(DataError, match="sentence 2: 1 words and 2 tags"):
        TaggedText([["a"], ["b"]], [["X"], ["X", "Y"]])
    with pytest.raises(DataError, match="2 sentences, too few"):
        split_sentences(TaggedText([["a"], ["b"]], [["X"], ["X"]]))
