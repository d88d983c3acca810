"""Tables of series: what is read, what is refused, and that the message says where."""

import numpy as np
import polars as pl
import pytest

from recurra.data.forecast.frequency import HOUR, Frequency, calendar, infer_frequency
from recurra.data.forecast.schema import Schema, choose_columns, parse_target
from recurra.data.forecast.series import build_series, statistics_of
from recurra.data.forecast.tables import parse_csv, read_tables, table_of
from recurra.data.forecast.times import read_times
from recurra.errors import ConfigError, DataError


def table(text: str):
    return parse_csv(text.encode(), "x.csv")


def series(text: str, *, id=None, target=("y",), **options):
    frequency = options.pop("frequency", None)
    zone = options.pop("zone", None)
    given = table(text)
    columns = choose_columns(given, "t", id, list(target), **options)
    return build_series(given, columns, frequency=frequency, zone=zone), columns


def grid(times: list[str], **options):
    given = table("t\n" + "\n".join(times) + "\n")
    found = read_times(given, "t", **options)
    return infer_frequency(found, np.array([0, len(times)]), given, None), found


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2024-01-01", "2024-01-02", "2024-01-04"], "1d"),
        (["2024-01-31", "2024-02-29", "2024-03-31"], "1mo"),
        (["2024-01-15", "2024-04-15", "2024-07-15", "2025-01-15"], "1q"),
        (["2020-01-01", "2021-01-01", "2022-01-01"], "1y"),
        (["2024-01-01T00:00Z", "2024-01-01T00:15Z", "2024-01-01T00:30Z"], "15min"),
        (["2024/01/01 00:00:00", "2024/01/01 01:00:00"], "1h"),
        (["1", "2", "3", "5"], "1 step"),
    ],
)
def test_frequencies_are_seen_and_times_come_back(times, expected):
    frequency, found = grid(times)
    assert str(frequency) == expected
    positions = frequency.positions(found.values)
    np.testing.assert_array_equal(frequency.times(positions), found.values)


def test_offsets_from_utc_are_kept_whole_across_the_change_of_clocks():
    hours = ["2024-03-31T00:00:00+01:00", "2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"]
    frequency, found = grid(hours, zone="Europe/Berlin")
    assert np.diff(found.values).tolist() == [HOUR, HOUR]
    assert frequency.text(int(found.values[2])) == "2024-03-31 03:00:00+02:00"
    turns = calendar(frequency, frequency.positions(found.values), 24)
    hour = np.arctan2(turns["day_sin"], turns["day_cos"]) % (2 * np.pi) * 24 / (2 * np.pi)
    assert hour.round().tolist() == [0, 1, 3]  # the local clock


def test_days_of_a_zone_are_days_though_one_has_23_hours():
    days = ["2024-03-30T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"]
    assert str(grid(days, zone="Europe/Berlin")[0]) == "1d"


@pytest.mark.parametrize(
    ("times", "options", "message"),
    [
        (["2024-01-01", "2024-13-02"], {}, "x.csv, row 3: column 't' has '2024-13-02'"),
        (["01/02/2024", "02/02/2024"], {}, "set time_format"),
        (["2024-01-01T00:00Z", "2024-01-01 01:00"], {}, "row 3: column 't' mixes times with and"),
        (["2024-10-27 01:00", "2024-10-27 02:00"], {"zone": "Europe/Berlin"}, "is doubled"),
        (["2024-01-01", "2024-01-02"], {"zone": "Europe/Bern2"}, "timezone='Europe/Bern2' is unkn"),
        (["2024-01-01 00:00"] * 2, {"time_format": "%Y"}, "does not match time_format"),
    ],
)
def test_unreadable_times_are_named_with_their_row(times, options, message):
    with pytest.raises((DataError, ConfigError), match=None) as error:
        grid(times, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,2024-01-02,1\na,2024-01-01,2\n", "row 3: time 2024-01-01 of series 'a' is before"),
        ("a,2024-01-01,1\nb,2024-01-01,1\na,2024-01-01,2\n", "row 4: time 2024-01-01 of series"),
        ("a,2024-01-01,1\n,2024-01-02,2\n", "row 3: column 'id' has no id"),
        ("a,2024-01-01,1\na,2024-01-02,x\n", "column 'y' has 'x', expected a number"),
        ("a,2024-01-01,\na,2024-01-02,\n", "column 'y' (target) has no value in any row"),
        ("a,2024-01-01,1\na,,2\n", "row 3: column 't' has no time"),
        ("a,2024-01-01,1\na,2024-01-02,inf\n", "row 3: column 'y' is infinite"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(DataError) as error:
        series("id,t,y\n" + rows, id="id", past=[])
    assert message in str(error.value)


def test_mixed_frequencies_are_refused_between_and_within_series():
    hours = "".join(f"a,2024-01-01 {h:02d}:00,1\n" for h in range(24))
    days = "".join(f"b,2024-01-{d:02d},1\n" for d in range(1, 6))
    with pytest.raises(DataError, match=r"row 27: mixed frequencies: this row and those after"):
        series("id,t,y\n" + hours + days, id="id")
    later = "".join(f"a,2024-02-{d:02d},1\n" for d in range(1, 13))
    with pytest.raises(DataError, match="mixed frequencies"):
        series("id,t,y\n" + hours + later, id="id")
    rows = "2024-01-01,1\n2024-01-02,1\n2024-01-02 12:00,1\n2024-01-03,1\n2024-01-04,1\n"
    with pytest.raises(DataError, match=r"row 4: mixed frequencies: this row stands between"):
        series("t,y\n" + rows + "2024-01-05,1\n")
    weekdays = [d for d in range(1, 29) if d % 7 < 5]
    found, _ = series("t,y\n" + "".join(f"2024-01-{d:02d},1\n" for d in weekdays))
    assert str(found.frequency) == "1d"  # a gap that comes again is no second frequency


def test_a_frequency_that_is_set_is_taken():
    found, _ = series("t,y\n2024-01-01,1\n2024-01-03,1\n2024-01-05,3\n", frequency="1d")
    assert np.isnan(found.targets[:, 0]).tolist() == [False, True, False, True, False]
    with pytest.raises(ConfigError, match="frequency='1x' does not fit"):
        series("t,y\n2024-01-01,1\n2024-01-03,1\n", frequency="1x")
    with pytest.raises(DataError, match="no series has two rows"):
        series("t,y\n2024-01-01,1\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"a,b\n", "a header and no rows"),
        (b"a,b\n1,2\n1,2,3\n", "row 3: 3 cells, the header has 2"),
        (b"a,a\n1,2\n", "the header names 'a' more than once"),
        (b"a,b\n1,\xe9\n", "row 2: byte 0xe9 is not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_tables([path])
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_csv_and_parquet_give_the_same_series(tmp_path):
    frame = pl.DataFrame(
        {
            "t": pl.datetime_range(
                pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 2), "1h", eager=True
            ),
            "y": [float(k) if k % 5 else None for k in range(25)],
            "word": ["a", "b", None, "a", "b"] * 5,
        }
    )
    frame.write_csv(tmp_path / "x.csv")
    frame.write_parquet(tmp_path / "x.parquet")
    (tmp_path / "semi.csv").write_text((tmp_path / "x.csv").read_text().replace(",", ";"))
    found = []
    for name in ("x.csv", "x.parquet", "semi.csv"):
        given = read_tables([tmp_path / name])
        columns = choose_columns(given, "t", None, ["y"])
        found.append(build_series(given, columns))
    assert columns.past_categories == ("word",)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].targets, other.targets)
        assert found[0].categories["word"].tolist() == other.categories["word"].tolist()
        assert found[0].frequency == other.frequency


def test_interleaved_series_and_gaps_are_laid_out_flat():
    rows = "b,2024-01-02,1\na,2024-01-01,2\nb,2024-01-05,NA\na,2024-01-02,4\nb,2024-01-06,5\n"
    found, _ = series("id,t,y\n" + rows, id="id")
    assert found.ids == ("b", "a")
    assert found.lengths.tolist() == [5, 2]
    assert np.isnan(found.targets[:, 0]).tolist() == [False, True, True, True, False, False, False]
    assert (found.start - found.start.min()).tolist() == [1, 0]


def test_wide_columns_become_series_of_their_own():
    found, _ = series("t,a,b\n1,1,10\n2,2,\n3,3,30\n", target=(), is_wide=True)
    assert found.ids == ("a", "b")
    np.testing.assert_array_equal(found.targets[:, 0], [1, 2, 3, 10, np.nan, 30])


def test_conditions_are_yes_no_targets_and_missing_stays_missing():
    found, columns = series("t,rain\n1,0\n2,3.5\n3,\n4,0.1\n", target=("rain>0",))
    np.testing.assert_array_equal(found.targets[:, 0], [0, 1, np.nan, 1])
    assert columns.past == ("rain",)  # its amount may be read
    assert parse_target("a b <= -1.5e-3").threshold == -1.5e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": ("z",)}, "there is no column 'z' (target); it has t, y, x"),
        ({"future": ["q"]}, "there is no column 'q'"),
        ({"future": ["x"], "past": ["x"]}, "column 'x' is named as future covariate"),
        ({"past": ["y"]}, "column 'y' is named as past covariate and has another role"),
    ],
)
def test_columns_that_do_not_fit_are_named(options, message):
    with pytest.raises((DataError, ConfigError)) as error:
        series("t,y,x\n1,2,3\n2,3,4\n", **options)
    assert message in str(error.value)


def test_a_static_column_with_two_values_is_refused():
    with pytest.raises(DataError, match="static column 'x' has several values"):
        series("t,y,x\n1,2,3\n2,3,4\n", static=["x"])


def test_statistics_come_from_training_rows_and_unseen_categories_are_unknown():
    text = "t,y,x,word\n1,1,1,a\n2,2,,b\n3,3,3,a\n4,400,500,c\n"
    found, columns = series(text)
    seen = statistics_of(found, columns, np.array([True, True, True, False]))
    assert seen.mean["x"] == 2.0
    assert "x" in seen.gappy
    assert seen.codes("word", found.categories["word"]).tolist() == [1, 2, 1, 0]
    with pytest.raises(DataError, match="column 'x' has no value in the rows to train on"):
        statistics_of(found, columns, np.array([False, True, False, False]))


def test_a_schema_survives_json():
    import json

    found, columns = series("id,t,y,word\nm,2024-01-31,1,a\nm,2024-02-29,2,b\n", id="id")
    seen = statistics_of(found, columns, np.array([True, True]))
    schema = Schema(columns, found.frequency, 12, seen)
    assert Schema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema


def test_booleans_are_targets_of_yes_and_no():
    given = table_of(pl.DataFrame({"t": [1, 2, 3], "y": [True, None, False]}))
    columns = choose_columns(given, "t", None, ["y"])
    assert columns.targets[0].kind == "yesno"
    np.testing.assert_array_equal(build_series(given, columns).targets[:, 0], [1, np.nan, 0])


def test_numbers_of_months_are_counted_from_the_epoch():
    frequency = Frequency("month", 3, origin=1, after=0)
    assert frequency.text(int(frequency.times(np.array([0]))[0])) == "1970-02-01"
