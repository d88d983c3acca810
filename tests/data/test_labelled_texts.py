"""Labelled texts from tables and class files, and what is said of bad ones."""

import json

import polars
import pytest

from recurra.data.labelled_texts import read_labelled_texts
from recurra.data.tables import check_column, read_table, row_line
from recurra.errors import DataError


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, **options) -> str:
    with pytest.raises(DataError) as error:
        read_labelled_texts([path], **options)
    return str(error.value)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_every_kind_of_table_gives_the_same_examples(tmp_path, kind):
    table = polars.DataFrame({"body": ["a, b", "", "é\nf"], "n": [1, 2, 3], "y": ["x", "z", "x"]})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        table.write_parquet(path)
    elif kind == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="\t" if kind == "tsv" else ",")
    found = read_labelled_texts([path], text="body", label="y")
    assert found.inputs == ["a, b", "", "é\nf"]
    assert found.labels == [("x",), ("z",), ("x",)]
    numbers = read_labelled_texts([path], text="body", label="n")
    assert numbers.labels == [("1",), ("2",), ("3",)]


def test_one_file_for_each_class_and_blank_lines_are_none(tmp_path):
    written(tmp_path, "cat.txt", "meow\n\npurr\n")
    written(tmp_path, "dog.txt", "woof\n")
    written(tmp_path, "LICENSE", "no class\n")
    found = read_labelled_texts([tmp_path])
    assert list(zip(found.inputs, found.labels, strict=True)) == [
        ("meow", ("cat",)),
        ("purr", ("cat",)),
        ("woof", ("dog",)),
    ]


def test_several_labels_in_a_field_or_a_list(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\nu,a|b\nv,\nw, b | b \n")
    found = read_labelled_texts([path], label_separator="|")
    assert found.labels == [("a", "b"), (), ("b",)]
    lines = [{"text": "u", "label": ["a", "b"]}, {"text": "v", "label": []}]
    path = written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert read_labelled_texts([path]).labels == [("a", "b"), ()]


def test_a_missing_column_names_the_nearest_and_those_there(tmp_path):
    path = written(tmp_path, "a.csv", "texts,class\na,b\n")
    message = refused(path)
    assert "no column 'text'" in message
    assert "did you mean 'texts'" in message
    assert "texts, class" in message
    assert "--set text=NAME" in message
    with pytest.raises(DataError, match="There are: b"):
        check_column(["b"], "label", "label", "x")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.csv",
            "text,label\na,b\nc,d,e\n",
            "line 3: the number of fields is 3, the header has 2",
        ),
        ("a.csv", "text,label\n\na,b\nc\n", "line 4: the number of fields is 1, the header has 2"),
        ("a.csv", b"text,label\na,b\n\xe9,d\n", "line 3: byte 0xe9 at column 1 is not UTF-8"),
        ("a.csv", 'text,label\n"two\nlines",b\nc,\n', "line 4: no label in column 'label'"),
        ("a.csv", 'text,label\n"a,b\nc,d\n', "quote"),
        ("a.csv", "text,label\n", "no row"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "text,text\na,b\n", "two columns are called 'text'"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text":\n', "line 2: no JSON"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n[1]\n', "line 2: a list, expected an object"),
        ("a.jsonl", '{"text": 1, "label": "b"}\n', "line 1: the text is a int"),
        ("a.parquet", "nothing", "cannot be read as parquet"),
        ("a.txt", "\n \n", "only blank lines"),
        ("a.txt", b"a\n\xff\n", "line 2: byte 0xff"),
    ],
)
def test_bad_files_are_refused_by_file_and_line(tmp_path, name, content, expected):
    path = written(tmp_path, name, content)
    message = refused(path)
    assert message.startswith(str(path))
    assert expected in message


def test_tables_beside_class_files_and_missing_files_are_refused(tmp_path):
    table = written(tmp_path, "a.csv", "text,label\na,b\n")
    other = written(tmp_path, "b.txt", "a\n")
    with pytest.raises(DataError, match="one file for each class alone"):
        read_labelled_texts([table, other])
    assert "does not exist" in refused(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is no table"):
        read_table(other)


def test_rows_of_a_parquet_file_are_counted_from_one(tmp_path):
    assert row_line(tmp_path / "a.parquet", 0).endswith("a.parquet, row 1")
