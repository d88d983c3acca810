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
        self.kind, self.vocabulary = kind, list(vocabulary)
        self.lowercase, self.split_punctuation = lowercase, split_punctuation
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
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
            minimum_count: rarer words or characters are unknown; has no meaning for bpe.
            lowercase: fold case first.
            split_punctuation: (word) separate punctuation marks.

        Raises:
            ArgumentError: an unknown kind, or a size that leaves no room for a token.
            DataError: no token in the text.
        """
        if kind not in KINDS:
            raise ArgumentError(f"tokenizer {kind!r} is unknown; use one of {KINDS}")
        if vocabulary_size is not None and vocabulary_size < 3:
            raise ArgumentError(f"vocabulary_size={vocabulary_size} leaves no room for a token")
        if kind == "bpe":
            folded = (line.lower() if lowercase else line for line in lines)
            trained = _train_bpe(folded, vocabulary_size or DEFAULT_BPE_SIZE)
            return cls(kind, _bpe_vocabulary(trained), lowercase=lowercase, bpe=trained)
        splitter = cls(
            kind, (UNKNOWN, END), lowercase=lowercase, split_punctuation=split_punctuation
        )
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(splitter.tokens(line))
        for special in (UNKNOWN, END):
            counts.pop(special, None)
        kept = [(-count, token) for token, count in counts.items() if count >= minimum_count]
        if not kept:
            raise DataError(
                f"the training text has no {kind} that occurs {minimum_count} times or more; "
                "use more text or a smaller minimum_count"
            )
        words = [token for _, token in sorted(kept)]
        room = None if vocabulary_size is None else vocabulary_size - 2
        return cls(
            kind,
            (UNKNOWN, END, *words[:room]),
            lowercase=lowercase,
            split_punctuation=split_punctuation,
        )

    def tokens(self, line: str) -> list[str]:
        """A line's tokens as strings, without the end."""
        if self._bpe is not None:
            return [self.vocabulary[i] for i in self.encode(line)]
        if self.lowercase:
            line = line.lower()
        if self.kind == "char":
            return list(line)
        return _PIECES.findall(line) if self.split_punctuation else line.split()

    def encode(self, line: str) -> list[int]:
        """A line's token ids, without the end."""
        if self._bpe is not None:
            return list(self._bpe.encode(line.lower() if self.lowercase else line).ids)
        get = self._ids.get
        return [get(token, 0) for token in self.tokens(line)]

    def encode_lines(self, lines: Iterable[str]) -> np.ndarray:
        """Ids of all lines in one array (tokens,), int32, with `<eos>` after each line."""
        batches = list(self._encode_batches(lines))
        return np.concatenate(batches) if batches else np.zeros(0, np.int32)

    def _encode_batches(self, lines: Iterable[str]) -> Iterator[np.ndarray]:
        """The same in pieces, each of up to 10,000 lines."""
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

    def save(self, path: str | Path) -> None:
        """Write to a JSON file."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "kind": self.kind,
            "lowercase": self.lowercase,
            "split_punctuation": self.split_punctuation,
            "vocabulary": self.vocabulary,
        }
        if self._bpe is not None:
            content["bpe"] = json.loads(self._bpe.to_str())
        Path(path).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            DataError: the file is no tokenizer of ours.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise DataError(f"{path}: format {content['format']!r}, expected {_FORMAT!r}")
            bpe = json.dumps(content["bpe"]) if "bpe" in content else None
            return cls(
                content["kind"],
                content["vocabulary"],
                lowercase=content["lowercase"],
                split_punctuation=content["split_punctuation"],
                bpe=bpe,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: is not a tokenizer file of recurra: {error}") from error


def _train_bpe(lines: Iterable[str], size: int) -> str:
    """A byte-level BPE tokenizer of the `tokenizers` library, as its JSON."""
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    trained = Trained(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[UNKNOWN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(lines, trainer)
    return str(trained.to_str())


def _load_bpe(content: str) -> Any:
    from tokenizers import Tokenizer as Trained

    return Trained.from_str(content)


def _bpe_vocabulary(content: str) -> list[str]:
    ids = json.loads(content)["model"]["vocab"]
    return sorted(ids, key=ids.__getitem__)
