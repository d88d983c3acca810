"""Reading files: what is found, how lines end, and what bad files are told."""

import gzip
from pathlib import Path

import pytest

from recurra.data import expand_paths, read_lines, split_lines
from recurra.errors import DataError


def test_files_folders_and_globs_expand_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden"):
        (tmp_path / name).write_text("x")
    single = tmp_path / "sub" / "c.txt"
    expanded = expand_paths([single, tmp_path, str(tmp_path / "*.txt"), f"{tmp_path}/**/c.txt"])
    names = [path.relative_to(tmp_path).as_posix() for path in expanded]
    assert names == ["sub/c.txt", "a.txt", "b.txt", "sub/c.txt", "a.txt", "b.txt", "sub/c.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    odd = tmp_path / "a[1].txt"
    odd.write_text("x")
    assert expand_paths([odd]) == [odd]


def test_a_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.txt: does not exist and matches no file"):
        expand_paths([tmp_path / "nowhere.txt"])


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no file in it"):
        expand_paths([tmp_path])


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\x85b\u2028c\x0bd\r\n\r\nlast".encode())
    assert read_lines(path) == ["a\x85b\u2028c\x0bd", "", "last"]


def test_gzip_reads_like_the_plain_file(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_bytes("größer\n\nals\n".encode())
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_lines(packed) == read_lines(plain) == ["größer", "", "als"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_wrong_encoding_names_file_line_and_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = b"fine\nfine too\ncaf\xe9\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=rf"{name}, line 3: byte 0xe9 at column 4 is not UTF-8"):
        read_lines(path)


def test_a_character_cut_off_by_the_end_of_the_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("fine\nß".encode()[:-1])
    with pytest.raises(DataError, match="line 2: byte 0xc3 at column 1"):
        read_lines(path)


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"GIF\n\x00\x01")
    with pytest.raises(DataError, match="line 2: a NUL byte; this is a binary file"):
        read_lines(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.gz", gzip.compress(b""), "the file is empty"),
        ("a.gz", b"no gzip", "cannot be read"),
        ("a.gz", gzip.compress(b"some text\n" * 99)[:-12], "cannot be read"),
    ],
)
def test_empty_and_damaged_files_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_lines(path)


def test_splits_keep_every_line_once_and_in_order() -> None:
    lines = [str(i) for i in range(1000)]
    splits = split_lines(lines)
    assert splits.train + splits.test + splits.valid == lines
    assert (len(splits.valid), len(splits.test)) == (50, 50)


def test_only_what_is_asked_for_is_held_out() -> None:
    lines = [str(i) for i in range(100)]
    splits = split_lines(lines, valid=False)
    assert (splits.train + splits.test, splits.valid) == (lines, [])
    splits = split_lines(lines, test=False)
    assert (splits.train + splits.valid, splits.test) == (lines, [])
    assert split_lines(lines, valid=False, test=False).train == lines


def test_too_few_lines_to_hold_out_say_what_to_do() -> None:
    with pytest.raises(DataError, match=r"a\.txt has 2 lines, too few .* pass --valid and --test"):
        split_lines(["a", "b"], where="a.txt")
    assert split_lines(["a", "b", "c"]).train == ["a"]
