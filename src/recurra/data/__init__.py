"""Reading text: files, tokens, splits, lanes, and the embedded default corpus."""

from recurra.data.examples import Examples, ExampleSplits, hold_out, split_examples
from recurra.data.labelled_series import read_long_table, read_series, read_ts
from recurra.data.labelled_texts import read_labelled_texts
from recurra.data.lanes import Lanes
from recurra.data.length_batches import Buckets
from recurra.data.ragged import Ragged
from recurra.data.shards import tokenise_once
from recurra.data.splits import TextSplits, split_lines
from recurra.data.text import expand_paths, iterate_lines, read_lines
from recurra.data.tokenizer import Tokenizer

__all__ = [
    "Buckets",
    "ExampleSplits",
    "Examples",
    "Lanes",
    "Ragged",
    "TextSplits",
    "Tokenizer",
    "expand_paths",
    "hold_out",
    "iterate_lines",
    "read_labelled_texts",
    "read_lines",
    "read_long_table",
    "read_series",
    "read_ts",
    "split_examples",
    "split_lines",
    "tokenise_once",
]
