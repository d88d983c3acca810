"""The page of a translation run: what was trained, how well it translates, where it looks."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recurra.insight.figures import Rows, gradients
from recurra.insight.report import comparison_facts, facts_table, figure, making_table, page, table
from recurra.insight.translation_figures import attention_map, translation_curves

HEADS = ("BLEU", "chrF", "exact match, %", "parameters", "seconds")


def translation_report(
    metrics: Mapping[str, Any], log: Rows, config: str, maps: Sequence[Mapping[str, Any]]
) -> str:
    """The page of a translation run.

    Args:
        metrics: the content of `metrics.json`.
        log: the rows of `log.csv`.
        config: the content of `config.yaml`.
        maps: attention of a few sentences; see `attention_map`.
    """
    name = metrics["description"]
    models = {name: metrics}
    models |= {key.replace("_", " "): value for key, value in metrics["baselines"].items()}
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(verdict(metrics))}</p>',
        table(("model", *HEADS), [(key, *_cells(value)) for key, value in models.items()]),
        *_learning(metrics, log),
        *_samples(metrics["samples"]),
        *_maps(maps),
        "<h2>What was measured</h2>",
        facts_table({**metrics["test"], **_signatures(metrics)}),
        "<h2>The text</h2>",
        facts_table(metrics["data"]),
        "<h2>How this was made</h2>",
        making_table(metrics, "tokens"),
        f"<pre>{escape(config)}</pre>",
    ]
    return page(f"recurra: {name}", parts)


def comparison_report(figures: Mapping[str, Any], drawn: Any) -> str:
    """The page of a comparison.

    Args:
        figures: the content of `comparison.json`.
        drawn: the figure of the comparison.
    """
    epochs = f"{figures['epochs']} epoch{'s' * (figures['epochs'] != 1)}"
    rows = [(entry["added"], *_cells(entry)) for entry in figures["models"].values()]
    parts = [
        "<h1>What each extension adds</h1>",
        f'<p class="lead">One plain encoder-decoder, then one thing added at a time; {epochs} over '
        f"the same pairs each. {escape(most_added(figures))}</p>",
        table(("added", *HEADS), rows),
        figure(
            drawn,
            "One seed each. Networks that have only begun to learn differ much from seed "
            "to seed: trust large differences.",
        ),
        "<h2>What was measured</h2>",
        facts_table(_signatures(figures)),
        *comparison_facts(figures, "text"),
    ]
    return page("recurra: translators compared", parts)


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the run shows, in a sentence."""
    test, greedy = metrics["test"], metrics["greedy_test"]
    return (
        f"Test BLEU {test['bleu']:.2f} (greedy {greedy['bleu']:.2f}), chrF {test['chrf']:.2f}; "
        f"{test['exact_match']:.2%} of {test['sentences']:,} sentences are exactly the reference."
    )


def most_added(figures: Mapping[str, Any]) -> str:
    """What one addition to the plain model, the first, did most, in a sentence; the last has all.

    Example:
        >>> bleu = {"plain": 6.1, "attention": 93.4, "everything": 99.9}
        >>> models = {k: {"added": k, "test": {"bleu": v}} for k, v in bleu.items()}
        >>> most_added({"models": models})
        'By itself attention adds most: test BLEU 93.4 instead of 6.1.'
    """
    plain, *additions, _ = figures["models"].values()
    best = max(additions, key=lambda entry: float(entry["test"]["bleu"]))
    return (
        f"By itself {best['added']} adds most: test BLEU {best['test']['bleu']:.1f} instead of "
        f"{plain['test']['bleu']:.1f}."
    )


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    test = figures["test"]
    return (
        f"{test['bleu']:.2f}",
        f"{test['chrf']:.2f}",
        f"{100 * test['exact_match']:.2f}",
        f"{figures['parameters']:,}",
        f"{figures['seconds']:.1f}",
    )


def _signatures(figures: Mapping[str, Any]) -> dict[str, str]:
    return {f"{name} signature": text for name, text in figures["signatures"].items()}


def _learning(metrics: Mapping[str, Any], log: Rows) -> list[str]:
    if not log:
        return []
    clipped = metrics["training"]["clipped_share"]
    caption = f"The gradient was clipped on {clipped:.0%} of the steps."
    return [
        "<h2>Learning</h2>",
        figure(translation_curves(log, metrics["chosen_by"]), "Loss and quality."),
        figure(gradients(log, metrics["training"]["gradient_clip"]), caption),
    ]


def _samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    parts = ["<h2>Translations of the test text</h2>"]
    for name, found in samples.items():
        heading = f"{name}, by chrF" if name != "some" else "some, evenly spaced"
        rows = "".join(
            f"<tr><td>{escape(one['source'])}</td><td>{escape(one['translation'])}</td>"
            f"<td>{escape(one['reference'])}</td><td class=number>{one['chrf']:.1f}</td></tr>"
            for one in found
        )
        head = (
            "<tr><th>source</th><th>translation</th><th>reference</th><th class=number>chrF</th>"
            "</tr>"
        )
        parts.append(f"<h3>{heading.capitalize()}</h3><table>{head}{rows}</table>")
    return parts


def _maps(maps: Sequence[Mapping[str, Any]]) -> list[str]:
    drawn = [figure(attention_map(one), "Attention over a sentence of test.") for one in maps]
    return ["<h2>Where it looks</h2>", *drawn] if drawn else []
