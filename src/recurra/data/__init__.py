"""Reading text: files, tokens, splits, lanes, and the embedded default corpus."""

from recurra.data.lanes import Lanes
from recurra.data.shards import tokenise_once
from recurra.data.splits import TextSplits, split_lines
from recurra.data.text import expand_paths, iterate_lines, read_lines
from recurra.data.tokenizer import Tokenizer

__all__ = [
    "Lanes",
    "TextSplits",
    "Tokenizer",
    "expand_paths",
    "iterate_lines",
    "read_lines",
    "split_lines",
    "tokenise_once",
]
