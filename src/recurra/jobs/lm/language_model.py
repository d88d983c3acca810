"""`recurra.LanguageModel`: trained, measured, used and saved in one line each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurra.data.splits import TextSplits
from recurra.errors import ArgumentError
from recurra.jobs import run_folder
from recurra.jobs.configurations import from_run, to_yaml
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.jobs.lm.corpus import fingerprint, read_files, read_splits
from recurra.jobs.lm.predictors import Predictor, load_predictor
from recurra.jobs.training import Paths, as_list, data_of_run, train_in_python
from recurra.training.files import write_atomically
from recurra.training.progress import Reporter


@dataclass
class LanguageModel:
    """A trained language model, n-gram or neural, with its tokenizer and its figures.

    Made by `train` or `recurra.load`.

    Attributes:
        predictor: the model with its tokenizer.
        config: what it was made from, resolved.
        metrics: the content of `metrics.json`: valid, test, baselines, time, memory, machine.
        folder: its run folder, if it has one.

    Example:
        >>> import recurra
        >>> from recurra.data.splits import split_lines
        >>> text = split_lines(["the cat sat on the mat", "the dog sat on the rug"] * 60)
        >>> options = {"hidden_size": 16, "batch_size": 4, "dropout": 0.0, "learning_rate": 0.02}
        >>> model = recurra.LanguageModel.train(text, max_epochs=12, **options)
        >>> model.evaluate()["tokens"]
        42
        >>> model.metrics["test"]["perplexity"] < len(model.predictor.tokenizer.vocabulary)
        True
        >>> best_first = model.score(["the mat sat on cat the", "the cat sat on the mat"])
        >>> best_first[0].line
        'the cat sat on the mat'
    """

    predictor: Predictor
    config: LanguageModelConfig
    metrics: dict[str, Any]
    log: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    splits: TextSplits | None = None

    @classmethod
    def train(
        cls,
        data: Paths | TextSplits | None = None,
        *,
        valid: Paths | None = None,
        test: Paths | None = None,
        out: str | Path | None = None,
        reporter: Reporter | None = None,
        **options: Any,
    ) -> "LanguageModel":
        """Train a model, and the n-gram baselines beside it.

        Args:
            data: files, folders or globs; or lines in three parts; `None` is the embedded text.
            valid: to choose the model by; `None` holds out a part of `data`.
            test: to report on; `None` holds out a part of `data`.
            out: run folder to write; `None` writes nothing (see `save`).
            reporter: shows the progress; `None` shows none.
            options: any key of the configuration: `model`, `cell`, `hidden_size`, `max_epochs`,
                … (`recurra validate` lists them).

        Raises:
            ConfigError: an unknown option, or a value that is not allowed.
            DataError: a text that cannot be read.
        """
        is_at_hand = isinstance(data, TextSplits)
        trained: LanguageModel = train_in_python(
            "lm",
            options,
            data=None if isinstance(data, TextSplits) else data,
            valid=valid,
            test=test,
            at_hand=data if is_at_hand else None,
            out=out,
            reporter=reporter,
        )
        return trained

    def evaluate(self, data: Paths | None = None, *, dynamic: bool = False) -> dict[str, float]:
        """Perplexity per word, bits per byte, nats per token, tokens.

        Args:
            data: text to measure on; `None` is the test split that the model was made with.
            dynamic: learn from the text while measuring on it (Krause et al. 2018): each token is
                predicted first and learned from after. The result is another, adaptive model's; its
                `learning_rate` is chosen on the valid split. The model itself stays as it is.

        Raises:
            DataError: the text cannot be read, or is no longer what the model was made with.
            ArgumentError: `dynamic` of an n-gram model.
        """
        lines = self._splits().test if data is None else read_files(as_list(data))
        if dynamic:
            return self.predictor.evaluate_dynamically(lines, "the text", self._splits().valid)
        return self.predictor.evaluate(lines, "the text")

    def generate(
        self,
        prompt: str = "",
        *,
        tokens: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Text that goes on from a prompt; equal seeds give equal text.

        Args:
            prompt: what stands before; "" begins a line.
            tokens: how many to draw.
            temperature: below 1 prefers likely tokens, 0 takes the likeliest.
            top_k: draw among the k likeliest.
            top_p: draw among the likeliest that make up this probability.
            seed: of the draws; `None` draws anew each time.
        """
        options = {"tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        return "".join(self.stream(prompt, seed=seed, **options))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """`generate`, piece by piece as it is drawn."""
        return self.predictor.stream(prompt, **options)

    def score(self, lines: Sequence[str]) -> list[Any]:
        """The log-probability of each line, the best first: n-best rescoring."""
        return self.predictor.score(lines)

    def predict(self, prompts: Sequence[str], count: int = 5) -> list[list[tuple[str, float]]]:
        """The likeliest next tokens after each prompt, with their probabilities.

        Args:
            prompts: beginnings of lines.
            count: how many of the likeliest.
        """
        if count < 1:
            raise ArgumentError(f"count is {count}; expected 1 or more")
        return [self.predictor.next_tokens(prompt, count) for prompt in prompts]

    def save(self, path: str | Path) -> None:
        """Write a run folder that `recurra.load` reads; `metrics.json` comes last.

        Raises:
            RunFolderError: the folder has content, or cannot be written.
        """
        self.write(run_folder.new_folder(path, "lm"))

    def write(self, folder: Path) -> None:
        """Write into a folder that is this model's own."""
        from recurra.insight.language_model_report import language_model_report
        from recurra.jobs.lm.ngrams import NGramPredictor

        self.predictor.save(folder / run_folder.WEIGHTS)
        if isinstance(self.predictor, NGramPredictor) and self.config.ngram.arpa:
            self.predictor.write_arpa(folder / run_folder.ARPA)
        write_atomically(folder / run_folder.TOKENIZER, self.predictor.tokenizer.save)
        text = to_yaml(self.config)
        page = language_model_report(self.metrics, self.log, text)
        run_folder.write_run(folder, text, self.metrics, page, self.folder)
        self.folder = folder

    @classmethod
    def load(cls, folder: Path) -> "LanguageModel":
        """Read a run folder; see `recurra.load`."""
        config = from_run(run_folder.read_config(folder), str(folder / run_folder.CONFIG))
        metrics = run_folder.read_metrics(folder)
        predictor = load_predictor(config, folder)
        return cls(predictor, config, metrics, run_folder.read_rows(folder), folder)

    def _splits(self) -> TextSplits:
        if self.splits is not None:
            return self.splits
        options = self.config.text
        source = ", ".join(options.data) or "the documentation of this Python"
        return data_of_run(self.metrics, lambda: read_splits(options), fingerprint, source)
