"""`recurra inspect gradients`: how gradients fare on their way back through time."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recurra.cells import find_cell
from recurra.errors import ArgumentError, DataError
from recurra.insight.canvas import Picture
from recurra.insight.gradient_figures import bounds, by_state, overview, spectra
from recurra.insight.gradient_flow import GradientFlow, gradient_flow
from recurra.insight.probe_training import ProbeNetwork, Schedule, accuracy, train
from recurra.insight.probes import Recall
from recurra.insight.report import table
from recurra.jobs.inspection.folder import Inspection, new_folder, write
from recurra.jobs.inspection.language_models import windows
from recurra.jobs.inspection.subjects import Subject, input_of, one_direction, open_subject
from recurra.jobs.lm.language_model import LanguageModel
from recurra.models.language_model import RecurrentLanguageModel
from recurra.training.progress import Reporter

START, END = "at initialisation", "after training"
ROWS = 16
FEW_STEPS = 200  # of test sequences that are looked at for each that is followed
Flows = dict[str, dict[str, GradientFlow]]


class Network(NamedTuple):
    """A network to compare: its name, cell, and the total bias of its forget gate."""

    name: str
    cell: str
    forget_bias: float | None = None


NETWORKS = (
    Network("Elman, σ", "rnn_sigmoid"),
    Network("Elman, tanh", "rnn"),
    Network("IRNN", "irnn"),
    Network("GRU", "gru"),
    Network("LSTM, forget bias 0", "lstm", 0.0),
    Network("LSTM, forget bias 1", "lstm", 1.0),
)


def inspect_gradients(
    *,
    hidden_size: int = 32,
    lags: int = 50,
    steps: int = 600,
    seed: int = 0,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Inspection:
    """Six networks on a problem of memory, before and after training.

    Args:
        hidden_size: units of each.
        lags: how far to look back; the sequences measured are as long.
        steps: of training on "recall the first symbol" over 1 to 40 symbols.
        seed: of weights and sequences.
        out: folder; None makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        ArgumentError: a size under 1.
    """
    reporter = reporter or Reporter()
    _check(hidden_size, lags)
    schedule, probe = Schedule(steps=steps), Recall()
    folder = new_folder(out, "gradients")
    generator = torch.Generator().manual_seed(seed + 1)
    inputs, targets = probe.draw(ROWS, max(lags - 2, 0), generator)
    inputs, flows, scores = inputs[-lags:], {}, {}
    for name, cell, forget_bias in NETWORKS:
        with reporter.stage(f"training and measuring {name}"):
            torch.manual_seed(seed)
            network = ProbeNetwork(find_cell(cell), probe, hidden_size, forget_bias=forget_bias)
            before = _measure(network, inputs, targets)
            train(network, probe, schedule, seed)
            flows[name] = {START: before, END: _measure(network, inputs, targets)}
            scores[name] = accuracy(network, probe, [5, 20, 40], seed + 2)
    extra = {name: {"accuracy_at_5_20_40": values} for name, values in scores.items()}
    lead = (
        f"Six networks of {hidden_size} units learn to say at the end which of eight symbols came "
        f"first ({steps} steps of 32 sequences, 1 to 40 symbols between). The gradient of the loss "
        f"at the end is followed {lags} steps back, in float64."
    )
    figures = {"networks": _entries(flows, extra), "steps": steps, "lags": lags}
    pictures = [overview(flows), bounds(flows), spectra(flows)]
    return _write(folder, figures, pictures, lead, seed)


def inspect_run_gradients(
    run: Path,
    *,
    lags: int = 50,
    rows: int = 8,
    seed: int = 0,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Inspection:
    """A trained model on sequences of its own test part, beside its initialisation.

    A language model is followed from the loss of the token after each window. Networks of other
    tasks answer from many steps at once: they are followed from their last output, along a random
    direction for each sequence. Of a network that reads both ways, the last layer's forward
    direction is followed.

    Args:
        run: the folder of a finished run with a recurrent network, of any task.
        lags: how far to look back, in steps; less where the sequences are shorter.
        rows: sequences.
        seed: of their places, of directions, and of the fresh weights.
        out, reporter: as for `inspect_gradients`.

    Raises:
        RunFolderError, ArgumentError: no finished run of a recurrent network.
        DataError: its data has changed, or is too short.
    """
    reporter = reporter or Reporter()
    _check(rows, lags)
    subject = open_subject(run)
    is_text = isinstance(subject.model, LanguageModel)
    prepare = _of_windows if is_text else _of_sequences
    measure, lags, what = prepare(subject, lags, rows, seed)
    folder = new_folder(out, "gradients")
    name = subject.name
    with reporter.stage(f"following gradients through {name}"):
        flows = {name: {START: measure(True), END: measure(False)}}
    lead = f"{name} on {what}, followed {lags} steps back, in float64."
    figures = {"networks": _entries(flows, {}), "run": str(run), "lags": lags}
    pictures = [bounds(flows), by_state(name, flows[name][END]), spectra(flows)]
    return _write(folder, figures, pictures, lead, seed)


Measure = Callable[[bool], GradientFlow]


def _of_windows(subject: Subject, lags: int, rows: int, seed: int) -> tuple[Measure, int, str]:
    """A language model, trained or fresh, on windows of its test text."""
    trained, network = subject.model, subject.model.predictor.model
    tokens, targets = windows(trained, lags, rows, seed)

    def measure(is_fresh: bool) -> GradientFlow:
        torch.manual_seed(seed)
        model = RecurrentLanguageModel(**network.options()).eval() if is_fresh else network
        return _measure_model(model, tokens, targets)

    what = (
        f"{rows} windows of {lags} tokens of its own test text, each read from a fresh state: the "
        "gradient of the loss of the token after it"
    )
    return measure, lags, what


def _of_sequences(subject: Subject, lags: int, rows: int, seed: int) -> tuple[Measure, int, str]:
    """A network of another task, trained or fresh, on the longest of its first test sequences.

    Raises:
        DataError: no two steps in a row.
    """
    passages = subject.passages(subject.sequences(None), rows * FEW_STEPS)
    longest = sorted(passages, key=lambda passage: -len(passage.x))[:rows]
    lags = min([lags, *(len(passage.x) for passage in longest)])
    if lags < 2:
        raise DataError(
            f"sequences of {lags} step(s) leave nothing to look back on; expected 2 or more"
        )
    x = torch.cat([passage.x[:lags] for passage in longest], 1)
    layers, which = list(subject.layers), ""
    if any(layer.bidirectional for layer in layers):
        module, index, x = input_of(subject, x, subject.num_layers - 1)
        layers, which = [one_direction(module, index)], ", in the last layer forwards"

    def measure(is_fresh: bool) -> GradientFlow:
        chosen = deepcopy(layers)
        torch.manual_seed(seed)
        for layer in chosen if is_fresh else ():
            layer.reset_parameters()
        return gradient_flow(chosen, x, lags=lags, seed=seed)

    what = (
        f"{len(longest)} test sequences cut to {lags} steps{which}, each read from a fresh state: "
        "the gradient of its last output along a random direction"
    )
    return measure, lags, what


COLUMNS = ("network", "factor/step", "after training", "left at the last lag", "after training")


def rows(entries: Mapping[str, Any]) -> list[list[str]]:
    """The cells of a table, as text."""
    return [
        [
            name,
            *(f"{e[stage]['factor_per_step']:.3f}" for stage in (START, END)),
            *(f"{e[stage]['norms'][-1]:.1e}" for stage in (START, END)),
        ]
        for name, e in entries.items()
    ]


def _check(size: int, lags: int) -> None:
    if size < 1 or lags < 2:
        raise ArgumentError(f"sizes must be 1 or more and lags 2 or more; got {size} and {lags}")


def _measure(network: ProbeNetwork, inputs: torch.Tensor, targets: torch.Tensor) -> GradientFlow:
    weight, bias = (p.detach().double() for p in (network.answer.weight, network.answer.bias))

    def loss(h: torch.Tensor) -> torch.Tensor:
        return -margin(torch.nn.functional.linear(h, weight, bias), targets[0])

    x = network.embed(inputs).detach()
    return gradient_flow(network.layer, x, lags=len(inputs), loss=loss)


def margin(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The right answer's logit over the log-sum of the others', (rows,).

    The cross-entropy's gradient is this one's times -(1 - p), p the right answer's probability: for
    relative norms they are one, but this one does not vanish where the answer is certain.
    """
    others = torch.nn.functional.one_hot(targets, logits.shape[1]).bool()
    right = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return right - logits.masked_fill(others, -torch.inf).logsumexp(1)


def _measure_model(
    network: RecurrentLanguageModel, tokens: torch.Tensor, targets: torch.Tensor
) -> GradientFlow:
    def loss(h: torch.Tensor) -> torch.Tensor:
        return len(targets) * network.softmax.loss(h.float(), targets).double()

    layers = list(network.layers)
    return gradient_flow(layers, network.embedding(tokens).detach(), lags=len(tokens), loss=loss)  # type: ignore[arg-type]


def _entries(flows: Flows, extra: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {**{stage: _entry(flow) for stage, flow in stages.items()}, **extra.get(name, {})}
        for name, stages in flows.items()
    }


def _entry(flow: GradientFlow) -> dict[str, Any]:
    weights = flow.weight_bounds
    return {
        "factor_per_step": flow.factor_per_step,
        "spectral_radius": flow.spectral_radius,
        "largest_singular_value": flow.largest_singular_value,
        "steepest_factor": flow.steepest_factor,
        "norms": flow.norms.median(0).values.tolist(),
        "norms_by_state": {n: v.median(0).values.tolist() for n, v in flow.by_state.items()},
        "path_bounds": flow.path_bounds.median(0).values.tolist(),
        "weight_bounds": None if weights is None else weights.clamp(max=1e300).tolist(),
    }


def _write(
    folder: Path, figures: Mapping[str, Any], pictures: list[Picture], lead: str, seed: int
) -> Inspection:
    entries = figures["networks"]
    listed = table(COLUMNS, rows(entries))
    facts = [
        (
            name,
            *(f"{e[stage]['spectral_radius']:.3f}" for stage in (START, END)),
            *(f"{e[stage]['largest_singular_value']:.3f}" for stage in (START, END)),
            *(_or_dash(e[stage]["steepest_factor"]) for stage in (START, END)),
            " ".join(f"{a:.0%}" for a in e.get("accuracy_at_5_20_40", [])) or "–",
        )
        for name, e in entries.items()
    ]
    head = (
        *("network", "largest |eigenvalue| of J", "after training"),
        *("largest singular value of J", "after training"),
        *("slope × σ_max(R)", "after training", "right at 5, 20, 40 symbols"),
    )
    note = (
        '<p class="note">The factor per step is what the median norm was multiplied by for each '
        "step back. Elman networks vanish for certain where slope × σ_max(R) is below 1, and can "
        "explode only where it is above.</p>"
    )
    return write(
        folder,
        figures,
        pictures,
        title="Gradients through time",
        lead=lead,
        tables=["<h2>Figures</h2>", listed, table(head, facts), note],
        seed=seed,
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
