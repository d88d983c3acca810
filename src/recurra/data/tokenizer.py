"""Words, byte-pair pieces or characters: a text's tokens and their ids."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recurra.errors import ArgumentError, DataError

UNKNOWN = "<unk>"
END = "<eos>"
KINDS = ("word", "bpe", "char")
DEFAULT_BPE_SIZE = 10_000
_FORMAT = "recurra-tokenizer-1"
_PIECES = re.compile(r"<unk>|\w+|[^\w\s]")


class Tokenizer:
    """Turns lines into token ids and back. Made by `train` or `load`.

    Ids 0 and 1 are `<unk>` and `<eos>`, which ends each line; then the rest, the most frequent
    first and equally frequent ones in alphabetic order.

    Attributes:
        kind: "word": what stands between white space, a literal `<unk>` being the unknown token.
            "bpe": byte-pair pieces over UTF-8 bytes (Sennrich et al. 2016), so that no text is out
            of vocabulary. "char": characters.
        vocabulary: the tokens in the order of their ids.
        lowercase: fold case first.
        split_punctuation: (word) each punctuation mark is a token of its own.

    Example:
        >>> tokenizer = Tokenizer.train(["a cat", "a dog"], "word")
        >>> tokenizer.vocabulary
        ['<unk>', '<eos>', 'a', 'cat', 'dog']
        >>> tokenizer.encode("a bird"), tokenizer.decode([2, 4, 1, 2])
        ([2, 0], 'a dog\\na')
    """

    unknown_id = 0
    eos_id = 1

    def __init__(
        self,
        kind: str,
        vocabulary: Sequence[str],
        *,
        lowercase: bool = False,
        split_punctuation: bool = False,
        bpe: str | None = None,
    ) -> None:
        self.kind = kind
        self.lowercase, self.split_punctuation = lowercase, split_punctuation
        self._set_vocabulary(vocabulary)
        self._bpe = _load_bpe(bpe) if bpe is not None else None

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        kind: str = "word",
        *,
        vocabulary_size: int | None = None,
        minimum_count: int = 1,
        lowercase: bool = False,
        split_punctuation: bool = False,
    ) -> "Tokenizer":
        """Learn a vocabulary from the lines of a training text.

        Args:
            lines: the text.
            kind: "word", "bpe" or "char".
            vocabulary_size: at most so many tokens, `<unk>` and `<eos>` among them; None: all
                (bpe: 10,000).
            minimum_count: rarer words or characters are unknown; for bpe, rarer pairs are not
                merged.
            lowercase: fold case first.
            split_punctuation: (word) separate punctuation marks.

        Raises:
            ArgumentError: an unknown kind, or a size that leaves no room for a token.
            DataError: no token in the text.
        """
        _check_arguments(kind, vocabulary_size, minimum_count)
        if kind == "bpe":
            folded = (line.lower() if lowercase else line for line in lines)
            trained = _train_bpe(folded, vocabulary_size or DEFAULT_BPE_SIZE, minimum_count)
            return cls(kind, _bpe_vocabulary(trained), lowercase=lowercase, bpe=trained)
        splitter = cls(kind, (), lowercase=lowercase, split_punctuation=split_punctuation)
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(splitter.tokens(line))
        splitter._set_vocabulary(_most_frequent(counts, kind, vocabulary_size, minimum_count))
        return splitter

    def _set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}

    def tokens(self, line: str) -> list[str]:
        """A line's tokens as strings, without the end."""
        if self._bpe is not None:
            return [self.vocabulary[i] for i in self.encode(line)]
        return self.cut(line.lower() if self.lowercase else line)

    def cut(self, line: str) -> list[str]:
        """A line's words or characters as they are written, case not folded."""
        if self.kind == "char":
            return list(line)
        return _PIECES.findall(line) if self.split_punctuation else line.split()

    def token_id(self, token: str) -> int:
        """Id of a token as it is written; 0 if it is unknown."""
        return self._ids.get(token.lower() if self.lowercase else token, self.unknown_id)

    def encode(self, line: str) -> list[int]:
        """A line's token ids, without the end."""
        if self._bpe is not None:
            return list(self._bpe.encode(line.lower() if self.lowercase else line).ids)
        get = self._ids.get
        return [get(token, 0) for token in self.tokens(line)]

    def encode_lines(self, lines: Iterable[str]) -> np.ndarray:
        """Ids of all lines in one array (tokens,), int32, with `<eos>` after each line."""
        batches = list(self.encode_batches(lines))
        return np.concatenate(batches) if batches else np.zeros(0, np.int32)

    def encode_batches(self, lines: Iterable[str]) -> Iterator[np.ndarray]:
        """The same in pieces, each of up to 10,000 lines: for texts larger than memory."""
        batch: list[str] = []
        for line in lines:
            batch.append(line)
            if len(batch) == 10_000:
                yield self._encode_batch(batch)
                batch = []
        if batch:
            yield self._encode_batch(batch)

    def _encode_batch(self, lines: list[str]) -> np.ndarray:
        ids: list[int] = []
        if self._bpe is not None:
            folded = [line.lower() for line in lines] if self.lowercase else lines
            for encoding in self._bpe.encode_batch(folded):
                ids += encoding.ids
                ids.append(self.eos_id)
        else:
            for line in lines:
                ids += self.encode(line)
                ids.append(self.eos_id)
        return np.asarray(ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; `<eos>` becomes a line feed."""
        lines: list[list[int]] = [[]]
        for i in ids:
            if int(i) == self.eos_id:
                lines.append([])
            else:
                lines[-1].append(int(i))
        return "\n".join(self._decode_line(line) for line in lines)

    def _decode_line(self, ids: list[int]) -> str:
        if self._bpe is not None:
            return str(self._bpe.decode(ids, skip_special_tokens=False))
        return ("" if self.kind == "char" else " ").join(self.vocabulary[i] for i in ids)

    def to_json(self) -> str:
        """All there is to it, as JSON text; equal tokenizers give equal text."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "kind": self.kind,
            "lowercase": self.lowercase,
            "split_punctuation": self.split_punctuation,
            "vocabulary": self.vocabulary,
        }
        if self._bpe is not None:
            content["bpe"] = json.loads(self._bpe.to_str())
        return json.dumps(content, ensure_ascii=False)

    def save(self, path: str | Path) -> None:
        """Write to a JSON file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            DataError: the file is no tokenizer of ours.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            found = content["format"]
            if found != _FORMAT:
                raise DataError(f"{path}: format {found!r}, expected {_FORMAT!r}")
            return cls(
                content["kind"],
                content["vocabulary"],
                lowercase=content["lowercase"],
                split_punctuation=content["split_punctuation"],
                bpe=json.dumps(content["bpe"]) if "bpe" in content else None,
            )
        except DataError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: is not a tokenizer file of recurra ({type(error).__name__}: {error}); "
                "pass one that Tokenizer.save wrote"
            ) from error


def _check_arguments(kind: str, vocabulary_size: int | None, minimum_count: int) -> None:
    if kind not in KINDS:
        raise ArgumentError(f"tokenizer {kind!r} is unknown; use one of {', '.join(KINDS)}")
    smallest = 2 + 256 if kind == "bpe" else 3
    if vocabulary_size is not None and vocabulary_size < smallest:
        raise ArgumentError(
            f"vocabulary_size={vocabulary_size} is too small for tokenizer {kind!r}; "
            f"use {smallest} or more"
        )
    if minimum_count < 1:
        raise ArgumentError(f"minimum_count={minimum_count} must be at least 1")


def _most_frequent(
    counts: Counter[str], kind: str, vocabulary_size: int | None, minimum_count: int
) -> list[str]:
    """`<unk>`, `<eos>`, then tokens by falling count, ties in alphabetic order."""
    kept = [
        (-count, token)
        for token, count in counts.items()
        if count >= minimum_count and token not in (UNKNOWN, END)
    ]
    if not kept:
        raise DataError(
            f"the training text has no {kind} that occurs {minimum_count} times or more; "
            "use more text or a smaller minimum_count"
        )
    words = [token for _, token in sorted(kept)]
    return [UNKNOWN, END, *words][:vocabulary_size]


def _train_bpe(lines: Iterable[str], size: int, minimum_count: int) -> str:
    """A byte-level BPE tokenizer of the `tokenizers` library, as its JSON."""
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    trained = Trained(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=minimum_count,
        special_tokens=[UNKNOWN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(lines, trainer)
    return str(trained.to_str())


def _load_bpe(content: str) -> Any:
    from tokenizers import Tokenizer as Trained

    try:
        loaded = Trained.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"its byte-pair model is damaged: {error}") from error
    # a text that holds the letters "<eos>" holds letters, not the end of a line
    loaded.encode_special_tokens = True
    return loaded


def _bpe_vocabulary(content: str) -> list[str]:
    ids = json.loads(content)["model"]["vocab"]
    return sorted(ids, key=ids.__getitem__)
