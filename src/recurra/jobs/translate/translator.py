"""`recurra.Translator`: trained, measured, used and saved in one line each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurra.data.direction import Direction
from recurra.data.parallel import ParallelSplits, ParallelText, read_parallel
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError, DataError
from recurra.jobs import run_folder
from recurra.jobs.configurations import from_run, to_yaml
from recurra.jobs.training import Paths, as_list, data_of_run, train_in_python
from recurra.jobs.translate.config import DecodingOptions, TranslatorConfig
from recurra.jobs.translate.corpus import read_splits
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.lm.scoring import LineScore
from recurra.tasks.translate.encoding import Tokenizers
from recurra.tasks.translate.metrics import Measured, measure
from recurra.tasks.translate.translation import Translation, score_pairs, translate_lines
from recurra.training.configuration import build
from recurra.training.files import write_atomically, write_tensors
from recurra.training.progress import Reporter
from recurra.training.weights import load_weights, unshared

SOURCE_TOKENIZER, LANGUAGES, MAPS = "source_tokenizer.json", "languages.json", "attention.json"


@dataclass
class Translator:
    """A trained translator with its tokenizers and its figures.

    Made by `train` or `recurra.load`.

    Attributes:
        network: the model.
        tokenizers: of source and target.
        direction: which language is on which side.
        config: what it was made from, resolved.
        metrics: the content of `metrics.json`: valid, test, baselines, time, memory, machine.
        folder: its run folder, if it has one.
        maps: attention of a few sentences, for the report.

    Example:
        >>> import recurra
        >>> from recurra.data.parallel import ParallelSplits, ParallelText
        >>> words = {"eins": "one", "zwei": "two", "drei": "three"}
        >>> lines = [f"{a} {b}" for a in words for b in words]
        >>> pairs = ParallelText(lines, [" ".join(words[w] for w in s.split()) for s in lines])
        >>> train = ParallelText(pairs.source * 20, pairs.target * 20)
        >>> sizes = {"hidden_size": 24, "embedding_size": 16, "dropout": 0.0, "warmup_steps": 5}
        >>> options = {"tokenizer": "word", "learning_rate": 0.02, "batch_tokens": 90, **sizes}
        >>> translator = recurra.Translator.train(
        ...     ParallelSplits(train, pairs, pairs), max_epochs=20, **options
        ... )
        >>> translator.predict(["zwei drei", "", "eins zwei"])
        ['two three', '', 'one two']
        >>> best_first = translator.score(["zwei drei\\tthree two", "zwei drei\\ttwo three"])
        >>> best_first[0].line
        'zwei drei\\ttwo three'
    """

    network: RecurrentTranslator
    tokenizers: Tokenizers
    direction: Direction
    config: TranslatorConfig
    metrics: dict[str, Any]
    log: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    splits: ParallelSplits | None = None
    maps: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def train(
        cls,
        data: Paths | ParallelSplits | None = None,
        *,
        valid: Paths | None = None,
        test: Paths | None = None,
        out: str | Path | None = None,
        reporter: Reporter | None = None,
        **options: Any,
    ) -> "Translator":
        """Train a translator.

        Args:
            data: two line-parallel files, the source first; `.tsv` or `.jsonl` files; or pairs in
                three parts; `None` is the embedded dates.
            valid: to choose the model by; `None` holds out a part of `data`.
            test: to report on; `None` holds out a part of `data`.
            out: run folder to write; `None` writes nothing (see `save`).
            reporter: shows the progress; `None` shows none.
            options: any key of the configuration: `cell`, `hidden_size`, `attention`, `tokenizer`,
                `max_epochs`, … (`recurra validate` lists them).

        Raises:
            ConfigError: an unknown option, or a value that is not allowed.
            DataError: a text that cannot be read.
        """
        trained: Translator = train_in_python(
            "translate",
            options,
            data=None if isinstance(data, ParallelSplits) else data,
            valid=valid,
            test=test,
            at_hand=data if isinstance(data, ParallelSplits) else None,
            out=out,
            reporter=reporter,
        )
        return trained

    def evaluate(self, data: Paths | ParallelText | None = None, **decoding: Any) -> dict[str, Any]:
        """BLEU and chrF (0..100), exact match (0..1), nats per token of the references.

        Args:
            data: text to measure on; `None` is the test split that the translator was made with.
            decoding: changes to how it searches, as `beam_size=1`.

        Returns:
            See `Measured.figures`; and sacreBLEU's signatures as `bleu_signature`,
            `chrf_signature`.

        Raises:
            DataError: the text cannot be read, its sides are exchanged, or it is no longer what
                the translator was made with.
        """
        found = self.measure(data, **decoding)
        named = {f"{name}_signature": text for name, text in found.signatures.items()}
        return {**found.figures, **named}

    def measure(self, data: Paths | ParallelText | None = None, **decoding: Any) -> Measured:
        """`evaluate`, with the translations."""
        if data is None:
            text = self._splits().test
        elif isinstance(data, ParallelText):
            text = data
        else:
            options = self.config.text
            text = read_parallel(as_list(data), source=options.source, target=options.target)
        self.direction.check(text)
        search = self.decoding(**decoding).decoding()
        return measure(self.network, self.tokenizers, text, search, ratio=self._ratio)

    def predict(self, inputs: Sequence[str], **decoding: Any) -> list[str]:
        """The best translation of each line; of a blank line, an empty one.

        Args:
            inputs: lines of any length.
            decoding: changes to how it searches: `beam_size`, `max_length`, … (`DecodingOptions`).
        """
        found = self.translate(inputs, **{**decoding, "n_best": 1})
        return [best[0].text if best else "" for best in found]

    def translate(
        self, inputs: Sequence[str], *, with_attention: bool = False, **decoding: Any
    ) -> list[list[Translation]]:
        """The translations of each line with scores, the best first; see `predict`.

        Args:
            inputs: lines.
            with_attention: where each token looked; `Translation.alignment` needs it.
            decoding: changes to how it searches.
        """
        options = self.decoding(**decoding)
        search = options.decoding()
        if search.coverage_penalty and self.network.attention is None:
            raise ArgumentError("coverage_penalty needs a model with attention; this one has none")
        return translate_lines(
            self.network,
            self.tokenizers,
            list(inputs),
            search,
            ratio=self._ratio,
            with_attention=with_attention,
            replace_unknown=options.replace_unknown,
        )

    def stream(self, lines: Iterable[str], **decoding: Any) -> Iterator[str]:
        """`predict`, each line as soon as it comes."""
        for line in lines:
            yield self.predict([line], **decoding)[0]

    def score(self, lines: Sequence[str]) -> list[LineScore]:
        """How likely given translations are, the best first: forced decoding, n-best rescoring.

        Args:
            lines: source and translation, a tab between.

        Raises:
            DataError: a line without a tab, or with several.
        """
        pairs = [line.split("\t") for line in lines]
        for number, pair in enumerate(pairs, start=1):
            if len(pair) != 2:
                raise DataError(
                    f"line {number}: {len(pair) - 1} tabs; expected one, between a sentence and "
                    "the translation to score"
                )
        text = ParallelText([source for source, _ in pairs], [target for _, target in pairs])
        scores = score_pairs(self.network, self.tokenizers, text)
        return sorted(scores, key=lambda one: -one.log_probability)

    def decoding(self, **changes: Any) -> DecodingOptions:
        """How it searches: the run's options, with changes.

        Raises:
            ConfigError: an unknown option or a value that is not allowed.
        """
        own = self.config.decoding.model_dump()
        unknown = sorted(changes.keys() - own.keys())
        if unknown:
            raise ArgumentError(
                f"{unknown[0]!r} is no option of the search; there are {', '.join(sorted(own))}"
            )
        return build(DecodingOptions, {**own, **changes})

    def save(self, path: str | Path) -> None:
        """Write a run folder that `recurra.load` reads; `metrics.json` comes last.

        Raises:
            RunFolderError: the folder has content, or cannot be written.
        """
        self.write(run_folder.new_folder(path, "translate"))

    def write(self, folder: Path) -> None:
        """Write into a folder that is this translator's own."""
        from recurra.insight.translation_report import translation_report
        from recurra.training.files import write_json

        write_tensors(folder / run_folder.WEIGHTS, unshared(self.network), {})
        write_atomically(folder / run_folder.TOKENIZER, self.tokenizers.target.save)
        write_atomically(folder / SOURCE_TOKENIZER, self.tokenizers.source.save)
        write_atomically(folder / LANGUAGES, self.direction.save)
        write_json(folder / MAPS, {"maps": self.maps})
        text = to_yaml(self.config)
        page = translation_report(self.metrics, self.log, text, self.maps)
        run_folder.write_run(folder, text, self.metrics, page, self.folder)
        self.folder = folder

    @classmethod
    def load(cls, folder: Path) -> "Translator":
        """Read a run folder; see `recurra.load`."""
        from recurra.jobs.translate.network import build_network

        config = from_run(run_folder.read_config(folder), str(folder / run_folder.CONFIG))
        metrics = run_folder.read_metrics(folder)
        tokenizers = Tokenizers(
            Tokenizer.load(folder / SOURCE_TOKENIZER), Tokenizer.load(folder / run_folder.TOKENIZER)
        )
        network = build_network(config, tokenizers)
        load_weights(network, folder / run_folder.WEIGHTS)
        network.eval()
        direction = Direction.load(folder / LANGUAGES)
        rows = run_folder.read_rows(folder)
        maps = run_folder.read_json(folder / MAPS)["maps"]
        return cls(network, tokenizers, direction, config, metrics, rows, folder, maps=maps)

    @property
    def _ratio(self) -> float:
        return float(self.metrics["length_ratio_bound"])

    def _splits(self) -> ParallelSplits:
        if self.splits is not None:
            return self.splits
        options = self.config.text
        source = ", ".join(options.data) or "CLDR in this Babel"
        read, fingerprint = lambda: read_splits(options), ParallelSplits.fingerprint
        return data_of_run(self.metrics, read, fingerprint, source)
