"""Shards: written once, whole or not at all, and found out when damaged."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recurra.data import Lanes, Tokenizer, tokenise_once
from recurra.errors import DataError

LINES = ["a cat sat", "", "a dog lay"] * 8_000


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join([*LINES, ""]))
    return path


def _tokenizer() -> Tokenizer:
    return Tokenizer.train(LINES)


def test_a_shard_holds_what_encoding_gives(text: Path, tmp_path: Path) -> None:
    tokens = tokenise_once([text, text], _tokenizer(), tmp_path / "shards")
    expected = torch.from_numpy(_tokenizer().encode_lines(LINES * 2))
    assert tokens.dtype == torch.int32
    assert torch.equal(tokens, expected)
    inputs, _ = Lanes(tokens, 4, 10).window(0, 0)
    assert torch.equal(inputs[:, 0], expected[:10].long())


def test_a_shard_is_written_once(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenise_once([text], _tokenizer(), tmp_path / "shards")

    def refuse(*_: object) -> Iterator[None]:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(Tokenizer, "encode_batches", refuse)
    assert torch.equal(tokenise_once([text], _tokenizer(), tmp_path / "shards"), first)


def test_another_text_or_tokenizer_gets_another_shard(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    tokenise_once([text], _tokenizer(), folder)
    characters = tokenise_once([text], Tokenizer.train(LINES, "char"), folder)
    text.write_text("a cat\n")
    changed = tokenise_once([text], _tokenizer(), folder)
    assert len(characters) == sum(len(line) + 1 for line in LINES)
    assert changed.tolist() == _tokenizer().encode_lines(["a cat"]).tolist()
    assert len(list(folder.iterdir())) == 6


def test_a_text_that_turns_out_bad_leaves_nothing_behind(text: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n" * 20_000 + b"\xff\n")
    with pytest.raises(DataError, match=r"bad\.txt, line 20001: byte 0xff"):
        tokenise_once([text, bad], _tokenizer(), tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device; free space there"):
        tokenise_once([text], _tokenizer(), tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_run_killed_before_the_index_begins_anew(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    tokens = tokenise_once([text], _tokenizer(), folder).clone()
    (index,) = folder.glob("*.json")
    index.unlink()
    index.with_suffix(".tokens").write_bytes(b"half")
    assert torch.equal(tokenise_once([text], _tokenizer(), folder), tokens)


@pytest.mark.parametrize("suffix", [".tokens", ".json"])
def test_a_damaged_shard_is_refused(text: Path, tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "shards"
    tokenise_once([text], _tokenizer(), folder)
    (index,) = folder.glob("*.json")
    damaged = index.with_suffix(suffix)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"damaged.*delete"):
        tokenise_once([text], _tokenizer(), folder)


def test_a_missing_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        tokenise_once([tmp_path / "none.txt"], _tokenizer(), tmp_path)


def test_writing_to_a_mapped_shard_leaves_the_file_alone(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    tokenise_once([text], _tokenizer(), folder)[0] = 99
    assert tokenise_once([text], _tokenizer(), folder)[0] != 99
