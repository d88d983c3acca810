"""`recurra.Classifier`: trained, measured, used and saved in one line each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.data.examples import Examples, ExampleSplits
from recurra.data.spelling import Alphabet, Spellings
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError, RunFolderError, ShapeError
from recurra.jobs import run_folder
from recurra.jobs.classify.config import ClassifierConfig
from recurra.jobs.classify.material import check_same_kind, fingerprint, read_files, read_splits
from recurra.jobs.classify.mixture import Mixture
from recurra.jobs.classify.mixture import load as load_mixture
from recurra.jobs.configurations import from_run, to_yaml
from recurra.jobs.training import Paths, as_list, data_of_run, train_in_python
from recurra.models.classifier import RecurrentClassifier
from recurra.models.classifier_ensemble import ClassifierEnsemble
from recurra.tasks.classify.encoding import EncodedInputs, encode, encode_inputs, tokens_of
from recurra.tasks.classify.metrics import figures
from recurra.tasks.classify.prediction import log_probabilities, vectors
from recurra.tasks.mode import evaluation_mode
from recurra.training.files import read_about, write_atomically, write_tensors
from recurra.training.progress import Reporter
from recurra.training.weights import load_weights, unshared


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one input.

    Attributes:
        label: the likeliest class; for several labels, those of probability above one half, joined
            by commas.
        probability: of the likeliest class.
        probabilities: of every class, the likeliest first.
    """

    label: str
    probability: float
    probabilities: dict[str, float] = field(repr=False)


@dataclass
class Classifier:
    """A trained classifier of texts or numeric series, which is also an encoder of them.

    Made by `train` or `recurra.load`. Texts are strings; series are arrays or tensors (time,
    channels). An empty one has an answer, too: that of the classifier's bias.

    Attributes:
        network: the model.
        classes: the labels, in the order of the network's answers.
        tokenizer: of texts; `None` for series.
        alphabet: that words are spelled in, if they are.
        config: what it was made from, resolved.
        metrics: the content of `metrics.json`: valid, test, baselines, time, memory, machine.
        folder: its run folder, if it has one.
        mixture: what the network's answers are mixed with, if they are.

    Example:
        >>> import recurra
        >>> from recurra.data import Examples, split_examples
        >>> texts = [f"{w} {n}" for n in range(20) for w in ("meow purr", "woof bark")]
        >>> examples = Examples(texts, [("cat",), ("dog",)] * 20)
        >>> options = {"hidden_size": 8, "max_epochs": 9, "warmup_steps": 0, "batch_size": 8}
        >>> model = recurra.Classifier.train(
        ...     split_examples(examples), learning_rate=0.02, **options
        ... )
        >>> [answer.label for answer in model.predict(["meow meow", "bark"])]
        ['cat', 'dog']
        >>> model.encode(["meow", "woof", ""]).shape
        torch.Size([3, 16])
        >>> model.evaluate()["accuracy"]
        1.0
    """

    network: RecurrentClassifier | ClassifierEnsemble
    classes: list[str]
    tokenizer: Tokenizer | None
    alphabet: Alphabet | None
    channels: tuple[str, ...]
    config: ClassifierConfig
    metrics: dict[str, Any]
    log: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    splits: ExampleSplits | None = None
    mixture: Mixture | None = None

    @classmethod
    def train(
        cls,
        data: Paths | ExampleSplits | None = None,
        *,
        valid: Paths | None = None,
        test: Paths | None = None,
        out: str | Path | None = None,
        reporter: Reporter | None = None,
        **options: Any,
    ) -> "Classifier":
        """Train a classifier, and baselines beside it.

        Args:
            data: files, folders or globs; or examples in three parts; `None` are the embedded names
                in twenty languages.
            valid: to choose the model by; `None` holds out a part of `data`.
            test: to report on; `None` holds out a part of `data`.
            out: run folder to write; `None` writes nothing (see `save`).
            reporter: shows the progress; `None` shows none.
            options: any key of the configuration: `text`, `label`, `tokenizer`, `cell`, `pooling`,
                `hidden_size`, `max_epochs`, … (`recurra validate` lists them).

        Raises:
            ConfigError: an unknown option, or a value that is not allowed.
            DataError: data that cannot be read, or that nothing can be learned from.
        """
        is_at_hand = isinstance(data, ExampleSplits)
        trained: Classifier = train_in_python(
            "classify",
            options,
            data=None if isinstance(data, ExampleSplits) else data,
            valid=valid,
            test=test,
            at_hand=data if is_at_hand else None,
            out=out,
            reporter=reporter,
        )
        return trained

    def evaluate(self, data: Paths | Examples | None = None) -> dict[str, Any]:
        """Accuracy, macro F1, log loss, calibration error, examples; see `tasks/classify`.

        Args:
            data: files, or examples; `None` is the test split that the model was made with.

        Returns:
            The metrics; and if there are labels that the model does not know, `unknown_labels`, how
            often each occurs: they count as errors.

        Raises:
            DataError: data that cannot be read, or is no longer what the model was made with.
        """
        if data is None:
            examples, where = self._splits().test, "the test split"
        elif isinstance(data, Examples):
            examples, where = data, "the examples"
        else:
            paths = as_list(data)
            examples, where = read_files(paths, self.config.examples), ", ".join(paths)
        check_same_kind(examples, self.channels, where)
        encoded = encode(
            examples,
            self.classes,
            self.tokenizer,
            self.alphabet,
            multi_label=self._is_multi_label,
        )
        found: dict[str, Any] = figures(self._log_p(encoded.inputs), encoded.targets)
        if encoded.unknown_labels:
            found["unknown_label_examples"] = sum(encoded.unknown_labels.values())
            found["unknown_labels"] = encoded.unknown_labels
        return found

    def predict(self, inputs: Sequence[Any]) -> list[Prediction]:
        """The classes of texts or series, with probabilities; in batches."""
        if not len(inputs):
            return []
        return [self._prediction(row) for row in self._log_p(self._encoded(inputs))]

    def encode(self, inputs: Sequence[Any]) -> Tensor:
        """The sentence vectors of texts or series, (inputs, vector_size), float32."""
        if not len(inputs):
            return torch.zeros(0, self.network.vector_size)
        return vectors(self.network, self._encoded(inputs))

    def stream(self, steps: Any) -> Iterator[Prediction]:
        """The answer after each token of a text, or each step of a series, as they come.

        What is read is kept in a `State` of fixed size; if answers are mixed with those of n-grams,
        beside the counts of those that came up. The last answer is that of `predict`.

        Args:
            steps: a text; or an iterable of steps, each (channels,) numbers.

        Raises:
            ArgumentError: the model is bidirectional: there is no answer before the end.
        """
        others: Iterator[Tensor] = iter(())
        if self.mixture is not None and self.tokenizer is not None:
            inputs = encode_inputs([steps], self.tokenizer, self.alphabet)
            others = self.mixture.ngrams.stream(tokens_of(inputs, self.tokenizer)[0])
        state = None
        for x_t, spelled in self._steps(steps):
            with evaluation_mode(self.network):
                log_p, state = self.network.step(x_t, state, spelled)
            if self.mixture is not None:
                log_p = self.mixture.mixed_with(log_p, next(others).unsqueeze(0))
            yield self._prediction(log_p[0])

    def _log_p(self, inputs: EncodedInputs) -> Tensor:
        """log p of each class for each input, (inputs, classes), mixed if this model mixes."""
        log_p = log_probabilities(self.network, inputs)
        if self.mixture is None or self.tokenizer is None:
            return log_p
        return self.mixture.mixed(log_p, tokens_of(inputs, self.tokenizer))

    def _steps(self, steps: Any) -> Iterator[tuple[Tensor, Spellings | None]]:
        """What `RecurrentClassifier.step` reads at each step, and the word it is, if spelled."""
        if self.tokenizer is None:
            for numbers in steps:
                yield torch.as_tensor(np.asarray(numbers)).float().unsqueeze(0), None
            return
        inputs = encode_inputs([steps], self.tokenizer, self.alphabet)
        for place in inputs.steps.values.tolist():
            if inputs.words is None:
                yield torch.tensor([place]), None
            else:
                yield torch.zeros(1, dtype=torch.long), inputs.words.select(np.array([place]))

    def parameters(self) -> int:
        """How many numbers were trained."""
        own = sum(parameter.numel() for parameter in self.network.parameters())
        return own + (0 if self.mixture is None else self.mixture.parameters())

    def save(self, path: str | Path) -> None:
        """Write a run folder that `recurra.load` reads; `metrics.json` comes last.

        Raises:
            RunFolderError: the folder has content, or cannot be written.
        """
        self.write(run_folder.new_folder(path, "classify"))

    def write(self, folder: Path) -> None:
        """Write into a folder that is this model's own."""
        from recurra.insight.classifier_report import classifier_report

        about = {
            "options": self.network.options(),
            "classes": self.classes,
            "channels": list(self.channels),
            "characters": [] if self.alphabet is None else self.alphabet.characters,
        }
        write_tensors(folder / run_folder.WEIGHTS, unshared(self.network), about)
        if self.tokenizer is not None:
            write_atomically(folder / run_folder.TOKENIZER, self.tokenizer.save)
        if self.mixture is not None:
            self.mixture.write(folder)
        text = to_yaml(self.config)
        page = classifier_report(self.metrics, self.log, text)
        run_folder.write_run(folder, text, self.metrics, page, self.folder)
        self.folder = folder

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read a run folder; see `recurra.load`."""
        config = from_run(run_folder.read_config(folder), str(folder / run_folder.CONFIG))
        metrics = run_folder.read_metrics(folder)
        path = folder / run_folder.WEIGHTS
        about = read_about(path)
        try:
            options = about["options"]
            kind = ClassifierEnsemble if "count" in options else RecurrentClassifier
            network = kind(**options)
            classes, channels = list(about["classes"]), tuple(about["channels"])
            alphabet = Alphabet(about["characters"]) if about["characters"] else None
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{path} describes no classifier of ours: {error!r}") from error
        load_weights(network, path)
        tokenizer = None if channels else Tokenizer.load(folder / run_folder.TOKENIZER)
        return cls(
            network.eval(),
            classes,
            tokenizer,
            alphabet,
            channels,
            config,
            metrics,
            run_folder.read_rows(folder),
            folder,
            mixture=load_mixture(folder) if config.baseline.mix_ngrams else None,
        )

    @property
    def _is_multi_label(self) -> bool:
        return self.network.multi_label

    def _encoded(self, inputs: Sequence[Any]) -> EncodedInputs:
        if self.tokenizer is not None:
            for k, text in enumerate(inputs):
                if not isinstance(text, str):
                    raise ArgumentError(
                        f"input {k} is a {type(text).__name__}, the model reads texts; pass a list "
                        "of strings"
                    )
            return encode_inputs(inputs, self.tokenizer, self.alphabet)
        series = [np.asarray(item, np.float32) for item in inputs]
        for k, item in enumerate(series):
            if item.ndim != 2 or item.shape[1] != len(self.channels):
                raise ShapeError(
                    f"series {k} has shape {item.shape}; the model reads (time, "
                    f"{len(self.channels)}): {', '.join(self.channels)}"
                )
        return encode_inputs(series, None)

    def _prediction(self, log_p: Tensor) -> Prediction:
        p = log_p.exp()
        order = p.argsort(descending=True, stable=True).tolist()
        probabilities = {self.classes[k]: float(p[k]) for k in order}
        label = self.classes[order[0]]
        if self._is_multi_label:
            label = ",".join(name for name, value in probabilities.items() if value > 0.5)
        return Prediction(label, float(p[order[0]]), probabilities)

    def _splits(self) -> ExampleSplits:
        if self.splits is not None:
            return self.splits
        options = self.config.examples
        source = ", ".join(options.data) or "Babel's CLDR"
        return data_of_run(self.metrics, lambda: read_splits(options), fingerprint, source)
