"""Series from `.ts` files and long tables, and what is said of bad ones."""

import numpy as np
import pytest

from recurra.data.labelled_series import read_long_table, read_series, read_ts
from recurra.errors import DataError

HEADER = "# a comment\n@problemName P\n@classLabel true a b\n@data\n"


def ts(folder, content, header=HEADER):
    path = folder / "a.ts"
    path.write_text(header + content)
    return path


def test_a_ts_file_has_series_of_unequal_length(tmp_path):
    found = read_ts(ts(tmp_path, "1,2.5:-3,4e0:b\n\n7:8:a\n"))
    assert [x.tolist() for x in found.inputs] == [[[1, -3], [2.5, 4]], [[7, 8]]]
    assert found.labels == [("b",), ("a",)]
    assert found.inputs[0].dtype == np.float32
    assert found.channels == ("channel 1", "channel 2")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1,2:3:a\n", "line 5: the channels of one example have [1, 2] values"),
        ("1:2:a\n1:b\n", "line 6: 1 channels, the first example has 2"),
        ("1:2:c\n", "line 5: label 'c' is not among those that @classLabel declares: a, b"),
        ("1,x:2,3:a\n", "line 5: could not convert"),
        ("1,?:2,3:a\n", "fill missing values"),
        ("1,nan:2,3:a\n", "NaN or infinite"),
        ("1,2\n", "line 5: no colon"),
        ("", "no example after @data"),
    ],
)
def test_bad_examples_are_refused_by_line(tmp_path, content, expected):
    with pytest.raises(DataError) as error:
        read_ts(ts(tmp_path, content))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("@classLabel false\n@data\n", "nothing to classify"),
        ("@timeStamps true\n@classLabel true a\n@data\n", "has time stamps"),
        ("@classLabel true a\n", "no @data line"),
        ("1:a\n", "line 1: expected a line of the header"),
    ],
)
def test_bad_headers_are_refused(tmp_path, header, expected):
    with pytest.raises(DataError) as error:
        read_ts(ts(tmp_path, "", header))
    assert expected in str(error.value)


def long_table(folder, rows, header="who,t,u,v,y"):
    path = folder / "a.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_long_table_is_ordered_by_time_within_each_series(tmp_path):
    path = long_table(tmp_path, ["p,10,1,2,a", "q,1,5,6,b", "p,9,3,4,a"])
    found = read_long_table(path, id="who", time="t", label="y")
    assert [x.tolist() for x in found.inputs] == [[[3, 4], [1, 2]], [[5, 6]]]
    assert found.labels == [("a",), ("b",)]
    assert found.channels == ("u", "v")
    as_it_is = read_series([path], id="who", label="y", channels=["v"])
    assert [x.tolist() for x in as_it_is.inputs] == [[[2], [4]], [[6]]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["p,1,1,2,a", "p,1,3,4,a"], "time 1.0 occurs twice"),
        (["p,1,1,2,a", "p,2,3,4,b"], "expected one label in all its rows, got ['a', 'b']"),
        (["p,1,1,x,a"], "row 1 of the data: 'x' in column 'v' is no finite number"),
        (["p,1,1,,a"], "row 1 of the data: None in column 'v'"),
        (["p,1,1,2,"], "expected one label"),
    ],
)
def test_bad_long_tables_are_refused(tmp_path, rows, expected):
    with pytest.raises(DataError) as error:
        read_long_table(long_table(tmp_path, rows), id="who", time="t", label="y")
    assert expected in str(error.value)


def test_a_long_table_needs_its_columns(tmp_path):
    path = long_table(tmp_path, ["p,1,1,2,a"])
    with pytest.raises(DataError, match="no column 'whom'; did you mean 'who'"):
        read_long_table(path, id="whom", label="y")
    with pytest.raises(DataError, match="--set id=NAME"):
        read_series([path], label="y")
