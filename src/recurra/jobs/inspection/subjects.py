"""A run of any task as instruments see it: recurrent layers, and sequences that they have read.

What a layer reads is not computed again here: the model answers as it always does, and what reaches
its layers is written down. So an instrument sees exactly what the model sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recurra.data.tokenizer import END
from recurra.errors import ArgumentError
from recurra.insight.gates import text_properties
from recurra.jobs.classify.classifier import Classifier
from recurra.jobs.forecast.forecaster import Forecaster
from recurra.jobs.lm.language_model import LanguageModel
from recurra.jobs.loading import load
from recurra.jobs.tag.tagger import Tagger
from recurra.jobs.translate.translator import Translator
from recurra.layers import Recurrent

LONGEST = 512  # steps of a sequence that is read in one call by every task
Paths = Sequence[str] | None


@dataclass(frozen=True)
class Passage:
    """A sequence that a run's network has read, from a fresh state.

    Attributes:
        x: (time, 1, features): what the first recurrent layer read.
        labels: what a person calls each step.
        properties: what a reader sees at each step, (time,) each, by name.
    """

    x: Tensor
    labels: list[str]
    properties: dict[str, Tensor]

    def first(self, steps: int) -> "Passage":
        """The same, cut to that many steps."""
        properties = {name: values[:steps] for name, values in self.properties.items()}
        return Passage(self.x[:steps], self.labels[:steps], properties)


@dataclass(frozen=True)
class Subject:
    """A run to look into.

    Attributes:
        model: as `recurra.load` gives it.
        layers: the recurrent layers that read its sequences, each on the one before.
        sequences: the run's test part, or that of files; each as `read` takes it.
        parse: the same from lines of text.
        read: let the model answer a sequence, and say what its layers read.
    """

    model: Any
    layers: tuple[Recurrent, ...]
    sequences: Callable[[Paths], Sequence[Any]]
    parse: Callable[[Sequence[str]], Sequence[Any]]
    read: Callable[[Any], Passage]

    @property
    def num_layers(self) -> int:
        """Of all modules together."""
        return sum(module.num_layers for module in self.layers)

    @property
    def name(self) -> str:
        """The model in words."""
        return str(self.model.metrics["description"])

    def passages(self, sequences: Sequence[Any], steps: int) -> list[Passage]:
        """Read sequences, as far as they hold that many steps together; empty ones are left out."""
        found: list[Passage] = []
        for sequence in sequences:
            if steps <= 0:
                break
            if len(sequence):
                found.append(self.read(sequence).first(steps))
                steps -= len(found[-1].labels)
        return found


def open_subject(run: Path) -> Subject:
    """A finished run.

    Raises:
        RunFolderError: no finished run.
        ArgumentError: its model has no recurrence to look into.
    """
    model = load(run)
    is_text = isinstance(model, LanguageModel)
    network: Any = getattr(model.predictor, "model", None) if is_text else model.network
    modules = network.modules() if isinstance(network, nn.Module) else ()
    if not any(isinstance(module, Recurrent) for module in modules):
        raise ArgumentError(
            f"{run} holds a model of kind {model.config.model!r}, which has no recurrence to look "
            "into; pass the run of a recurrent model"
        )
    network.eval()
    return _KINDS[type(model)](model)


def input_of(subject: Subject, x: Tensor, number: int) -> tuple[Recurrent, int, Tensor]:
    """A layer by its number from 0 among all layers, in all modules, and what it reads.

    Args:
        subject: a run.
        x: (time, batch, features): what the first layer reads.
        number: of the layer.

    Returns:
        `(module, index, x)`: the layer is the module's layer `index`; what it reads.
    """
    with torch.no_grad():
        for module in subject.layers:
            if number < module.num_layers:
                return module, number, _between(module, x, number)
            x = module(x)[0]
            number -= module.num_layers
    raise ArgumentError(f"there is no layer {number}")


def one_direction(module: Recurrent, index: int) -> Recurrent:
    """The forward direction of one layer, as a module of its own with the same weights.

    Example:
        >>> from recurra.layers import GRU
        >>> both = GRU(3, 4, bidirectional=True)
        >>> x = torch.randn(5, 2, 3)
        >>> bool(torch.allclose(one_direction(both, 0)(x)[0], both(x)[0][..., :4]))
        True
    """
    alone = Recurrent(
        module.cell,
        module.input_sizes[index],
        module.hidden_sizes[index],
        bias=module.bias,
        proj_size=module.proj_size,
        zoneout=module.zoneout,
        forget_bias=module.forget_bias,
        init=module.init,
    )
    for name, parameter in alone.named_parameters():
        kind = name.removesuffix("_l0")
        parameter.data.copy_(module.get_parameter(f"{kind}_l{index}"))
    return alone.eval()


def _between(module: Recurrent, x: Tensor, index: int) -> Tensor:
    """What layer `index` of a module reads."""
    if not index:
        return x
    _, states = module(x, module.initial_state(x.shape[1]), return_states="all")
    directions = module.num_directions
    for k in range(index):
        own = states.layers[k * directions : (k + 1) * directions]
        y = torch.cat([one[0] for one in own], -1)
        x = x + y if module.residual and x.shape == y.shape else y
    return x


def what_layer_reads(layer: Recurrent, answer: Callable[[], object]) -> Tensor:
    """(time, batch, features): the first input of a layer while something is answered."""
    seen: list[Tensor] = []

    def write_down(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        x, rows = arguments[0].detach(), named.get("rows")
        seen.append(x if rows is None else x[rows])  # rows: where distinct inputs stand

    handle = layer.register_forward_pre_hook(write_down, with_kwargs=True)
    try:
        with torch.no_grad():
            answer()
    finally:
        handle.remove()
    return seen[0]


def _of_language_model(model: LanguageModel) -> Subject:
    predictor: Any = model.predictor
    network, tokenizer = predictor.model, predictor.tokenizer
    layers = tuple(network.layers)

    def lines(paths: Paths) -> list[list[int]]:
        from recurra.jobs.lm.corpus import read_files

        return parse(read_files(list(paths)) if paths else model._splits().test)

    def parse(texts: Sequence[str]) -> list[list[int]]:
        """One stream, as the model reads a text: its lines on and on, an end before the first."""
        ids = tokenizer.encode_lines(texts).tolist()
        return [[tokenizer.eos_id, *ids]] if len(ids) > len(texts) else []

    def read(ids: Sequence[int]) -> Passage:
        tokens = torch.tensor(ids).unsqueeze(1)
        x = what_layer_reads(layers[0], lambda: network.features(tokens, network.initial_state(1)))
        labels = [END if k == tokenizer.eos_id else tokenizer.decode([k]) for k in ids]
        return Passage(x, labels, text_properties(labels, END))

    return Subject(model, layers, lines, parse, read)


def _of_tagger(model: Tagger) -> Subject:
    from recurra.data.columns import read_tagged
    from recurra.data.word_tokens import sentences

    def words(paths: Paths) -> Sequence[Any]:
        text = read_tagged(list(paths), model.config.text.column) if paths else model._splits().test
        return text.words

    def read(sentence: Sequence[str]) -> Passage:
        labels = list(sentence[:LONGEST])
        layer = model.network.layers
        return Passage(
            what_layer_reads(layer, lambda: model.predict([labels])),
            labels,
            text_properties(labels, END),
        )

    def parse(lines: Sequence[str]) -> list[Any]:
        return [found for line in lines for found in sentences(line)]

    return Subject(model, (model.network.layers,), words, parse, read)


def _of_classifier(model: Classifier) -> Subject:
    from recurra.jobs.classify.material import read_files

    layer, tokenizer = model.network.layers, model.tokenizer

    def inputs(paths: Paths) -> Sequence[Any]:
        if paths:
            return read_files(list(paths), model.config.examples).inputs
        return model._splits().test.inputs

    def read(item: Any) -> Passage:
        x = what_layer_reads(layer, lambda: model.encode([item]))
        if tokenizer is None:
            columns = {name: x[:, 0, k] for k, name in enumerate(model.channels)}
            return Passage(x, [str(t) for t in range(1, len(x) + 1)], columns)
        labels = [tokenizer.decode([k]) or "�" for k in tokenizer.encode(item)][: len(x)]
        return Passage(x, labels, text_properties(labels, END))

    def parse(lines: Sequence[str]) -> Sequence[Any]:
        if tokenizer is None:
            raise ArgumentError("the classifier reads series, not text; pass them with --data")
        return [line for line in lines if line.strip()]

    return Subject(model, (layer,), inputs, parse, read)


def _of_translator(model: Translator) -> Subject:
    from recurra.data.parallel import read_parallel

    network, tokenizer = model.network, model.tokenizers.source
    encoder = network.encoder if network.encoder is not None else network.decoder
    layers: tuple[Any, ...] = tuple(encoder.layers)

    def sources(paths: Paths) -> Sequence[str]:
        options = model.config.text
        if not paths:
            return model._splits().test.source
        return read_parallel(list(paths), source=options.source, target=options.target).source

    def read(line: str) -> Passage:
        x = what_layer_reads(layers[0], lambda: model.translate([line], beam_size=1))
        labels = [*tokenizer.tokens(line), END][: len(x)]
        if network.reverse_source:
            labels.reverse()
        return Passage(x, labels, text_properties(labels, END))

    def parse(lines: Sequence[str]) -> list[str]:
        return [line for line in lines if line.strip()]

    return Subject(model, layers, sources, parse, read)


def _of_forecaster(model: Forecaster) -> Subject:
    from recurra.data.forecast.windows import encode_series

    network, frequency = model.network, model.schema.frequency
    names = [target.name for target in model.schema.columns.targets]
    levels = torch.tensor(model.config.network.levels)
    layer = network.layers if hasattr(network, "layers") else network.encoder.layers

    def windows(paths: Paths) -> Sequence[Any]:
        """Windows that stand one after the other."""
        if paths:
            series = model._series(list(paths))
            flat = encode_series(series, model.schema)
            ends = np.arange(network.window - 1, len(series.positions), network.window)
        else:
            data = model._own_data()
            series, flat, ends = data.series, data.flat, data.origins["test"][:: network.window]
        return [Window(series, flat, int(end), network.window) for end in ends]

    def read(window: Window) -> Passage:
        found = window.flat.gather(torch.tensor([window.end]), len(window), network.horizon)
        x = what_layer_reads(layer, lambda: network.forecast(found, levels))
        step = len(window) // len(x)  # a segment-wise network reads several rows at a step
        rows = slice(window.end + step - len(window), window.end + 1, step)
        labels = [frequency.text(int(t)) for t in frequency.times(window.series.positions[rows])]
        values = torch.from_numpy(window.series.targets[rows]).float().nan_to_num()
        columns = dict(zip(names, values.unbind(1), strict=False))
        return Passage(x, labels, columns)

    def parse(lines: Sequence[str]) -> Sequence[Any]:
        raise ArgumentError("a forecaster reads tables, not text; pass one with --data")

    return Subject(model, (layer,), windows, parse, read)


@dataclass(frozen=True)
class Window:
    """Rows of a series up to a row `end` of all rows."""

    series: Any
    flat: Any
    end: int
    size: int

    def __len__(self) -> int:
        return self.size


_KINDS: dict[type, Callable[[Any], Subject]] = {
    LanguageModel: _of_language_model,
    Tagger: _of_tagger,
    Classifier: _of_classifier,
    Translator: _of_translator,
    Forecaster: _of_forecaster,
}
