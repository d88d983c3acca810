"""`recurra.Tagger`: trained, measured, used and saved in one line each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurra.data.columns import read_tagged
from recurra.data.lexicon import Lexicon
from recurra.data.tagged_text import TaggedSplits, TaggedText
from recurra.data.word_tokens import sentences
from recurra.errors import ArgumentError
from recurra.jobs import run_folder
from recurra.jobs.configurations import from_run, to_yaml
from recurra.jobs.run_folder import LEXICON
from recurra.jobs.tag.config import TaggerConfig
from recurra.jobs.tag.corpus import fingerprint, read_splits
from recurra.jobs.tag.network import build_network
from recurra.jobs.training import Paths, as_list, data_of_run, train_in_python
from recurra.models.tagger import RecurrentTagger
from recurra.tasks.tag.metrics import Measured
from recurra.tasks.tag.prediction import TaggedSentence, TagStream, tag_sentences
from recurra.tasks.tag.task import evaluate
from recurra.training.files import write_atomically, write_tensors
from recurra.training.progress import Reporter
from recurra.training.weights import load_weights, unshared

Input = str | Sequence[str]


@dataclass
class Tagger:
    """A trained tagger with its lexicon and its figures.

    Made by `train` or `recurra.load`.

    Attributes:
        network: the model.
        lexicon: its words, characters and tags.
        config: what it was made from, resolved.
        metrics: the content of `metrics.json`: valid, test, baselines, time, memory, machine.
        folder: its run folder, if it has one.

    Example:
        >>> import recurra
        >>> from recurra.data.tagged_text import TaggedText, split_sentences
        >>> words = [["the", "can", "rusts"], ["we", "can", "fish"]] * 60
        >>> tags = [["DET", "NOUN", "VERB"], ["PRON", "AUX", "VERB"]] * 60
        >>> text = split_sentences(TaggedText(words, tags))
        >>> options = {"hidden_size": 8, "embedding_size": 8, "learning_rate": 0.05}
        >>> tagger = recurra.Tagger.train(text, max_epochs=6, batch_tokens=60, **options)
        >>> tagger.evaluate()["accuracy"]
        1.0
        >>> tagger.predict(["We can fish", ["the", "can", "rusts"]])[1].tags
        ['DET', 'NOUN', 'VERB']
    """

    network: RecurrentTagger
    lexicon: Lexicon
    config: TaggerConfig
    metrics: dict[str, Any]
    log: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    splits: TaggedSplits | None = None

    @classmethod
    def train(
        cls,
        data: Paths | TaggedSplits | None = None,
        *,
        valid: Paths | None = None,
        test: Paths | None = None,
        out: str | Path | None = None,
        reporter: Reporter | None = None,
        **options: Any,
    ) -> "Tagger":
        """Train a tagger, and the most frequent tag of each word beside it.

        Args:
            data: files, folders or globs (CoNLL-U, or columns); or sentences in three parts;
                `None` is the embedded text.
            valid: to choose the model by; `None` holds out a part of `data`.
            test: to report on; `None` holds out a part of `data`.
            out: run folder to write; `None` writes nothing (see `save`).
            reporter: shows the progress; `None` shows none.
            options: any key of the configuration: `column`, `cell`, `hidden_size`, `crf`,
                `max_epochs`, … (`recurra validate` lists them).

        Raises:
            ConfigError: an unknown option, or a value that is not allowed.
            DataError: a text that cannot be read.
        """
        at_hand = data if isinstance(data, TaggedSplits) else None
        trained: Tagger = train_in_python(
            "tag",
            options,
            data=None if isinstance(data, TaggedSplits) else data,
            valid=valid,
            test=test,
            at_hand=at_hand,
            out=out,
            reporter=reporter,
        )
        return trained

    def evaluate(self, data: Paths | TaggedText | None = None) -> dict[str, Any]:
        """Accuracy and, of entities, precision, recall and F1 as conlleval has them, in 0..1.

        Args:
            data: text to measure on; `None` is the test split that the tagger was made with.

        Returns:
            See `Measured.figures`; and `by_type`, the figures of each type or tag, and for each
            tag that was not in the training text `unseen_tag_<tag>`, how often it stands there.

        Raises:
            DataError: the text cannot be read, or is no longer what the tagger was made with.
        """
        found = self.measure(data)
        unseen = {f"unseen_tag_{tag}": count for tag, count in found.unseen.items()}
        return {**found.figures, **unseen, "by_type": found.by_type}

    def measure(self, data: Paths | TaggedText | None = None) -> Measured:
        """`evaluate`, with the confusion of tags."""
        if data is None:
            text = self._splits().test
        elif isinstance(data, TaggedText):
            text = data
        else:
            text = read_tagged(as_list(data), self.config.text.column)
        return evaluate(self.network, self.lexicon, text)

    def predict(
        self, inputs: str | Sequence[Input] | TaggedText, *, confidence: bool = True
    ) -> list[TaggedSentence]:
        """The tags of sentences.

        Args:
            inputs: lists of words, one a sentence, which stay as they are; and texts, which are cut
                into sentences and words by `recurra.data.word_tokens`, all of a text's sentences
                following each other. Empty ones give a sentence without words. Or one text.
            confidence: the probability of each tag, too.
        """
        cut: list[Sequence[str]] = []
        if isinstance(inputs, str):
            inputs = [inputs]
        for text in inputs.words if isinstance(inputs, TaggedText) else inputs:
            cut += sentences(text) if isinstance(text, str) else [text]
        return list(tag_sentences(self.network, self.lexicon, cut, confidence=confidence))

    def stream(self, streams: int = 1) -> TagStream:
        """Tags word by word, as they come.

        Args:
            streams: how many sentences run side by side.

        Raises:
            ArgumentError: the tagger reads in both directions or has a CRF.
        """
        return TagStream(self.network, self.lexicon, streams=streams)

    def parameters(self) -> int:
        """Numbers that were learned."""
        return sum(p.numel() for p in self.network.parameters())

    def save(self, path: str | Path) -> None:
        """Write a run folder that `recurra.load` reads; `metrics.json` comes last.

        Raises:
            RunFolderError: the folder has content, or cannot be written.
        """
        self.write(run_folder.new_folder(path, "tag"))

    def write(self, folder: Path) -> None:
        """Write into a folder that is this tagger's own."""
        from recurra.insight.tagging_report import tagging_report

        write_tensors(folder / run_folder.WEIGHTS, unshared(self.network), {})
        write_atomically(folder / LEXICON, self.lexicon.save)
        text = to_yaml(self.config)
        page = tagging_report(self.metrics, self.log, text)
        run_folder.write_run(folder, text, self.metrics, page, self.folder)
        self.folder = folder

    @classmethod
    def load(cls, folder: Path) -> "Tagger":
        """Read a run folder; see `recurra.load`."""
        config = from_run(run_folder.read_config(folder), str(folder / run_folder.CONFIG))
        metrics = run_folder.read_metrics(folder)
        lexicon = Lexicon.load(folder / LEXICON)
        network = build_network(config, lexicon, metrics["embedding_size"])
        load_weights(network, folder / run_folder.WEIGHTS)
        network.eval()
        return cls(network, lexicon, config, metrics, run_folder.read_rows(folder), folder)

    def _splits(self) -> TaggedSplits:
        if self.splits is not None:
            return self.splits
        options = self.config.text
        source = ", ".join(options.data) or "the library of this Python"
        return data_of_run(self.metrics, lambda: read_splits(options), fingerprint, source)


def read_inputs(lines: Sequence[str], reads: str) -> TaggedText | list[Input]:
    """What `predict` takes, from lines of a kind.

    Args:
        lines: without line feeds.
        reads: "raw": text; "tokens": words between blanks, one sentence a line; "conll": CoNLL-U
            or columns, the word first.

    Raises:
        ArgumentError: an unknown kind.
        DataError: no CoNLL.
    """
    from recurra.data.columns import parse_tagged

    if reads == "raw":
        return list(lines)
    if reads == "tokens":
        return [line.split() for line in lines]
    if reads == "conll":
        return parse_tagged(lines, "the input", tagged=False)
    raise ArgumentError(f"--reads {reads!r} is unknown; use raw, tokens or conll")
