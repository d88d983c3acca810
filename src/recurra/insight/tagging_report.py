"""The page of a tagging run: what was trained, and how well."""

from collections.abc import Mapping
from html import escape
from typing import Any

from recurra.insight.figures import Rows, gradients
from recurra.insight.report import comparison_facts, facts_table, figure, making_table, page, table
from recurra.insight.tagging_figures import confusion, tagging_curves


def tagging_report(metrics: Mapping[str, Any], log: Rows, config: str) -> str:
    """The page of a tagging run.

    Args:
        metrics: the content of `metrics.json`.
        log: the rows of `log.csv`.
        config: the content of `config.yaml`.
    """
    name = metrics["description"]
    models = {name: metrics, **_named(metrics["baselines"])}
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(verdict(metrics))}</p>',
        model_table(models, name),
        *_unseen(metrics["unseen"]),
        *_learning(metrics, log),
        *_types(metrics),
        *_confusion(metrics["confusion"]),
        *_samples(metrics["samples"]),
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
    models = {entry["description"]: entry for entry in figures["models"].values()}
    words = f"{figures['training_tokens']:,} words"
    caption = (
        f"Every tagger read {words} of the same text in the same order. In one direction it knows "
        "a word's past only; the baseline knows nothing but the word."
    )
    parts = [
        "<h1>Taggers compared</h1>",
        f'<p class="lead">The same text, the same {words} of training, the same test.</p>',
        model_table(models, ""),
        figure(drawn, caption),
        *comparison_facts(figures, "text"),
    ]
    return page("recurra: taggers compared", parts)


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the run shows, in a sentence."""
    test = metrics["test"]
    name, label = ("f1", "F1 of entities") if "f1" in test else ("accuracy", "accuracy")
    text = f"Test {label} {test[name]:.2%} over {test['tokens']:,} words"
    baselines = _named(metrics["baselines"])
    if baselines:
        rival = max(baselines, key=lambda key: baselines[key]["test"][name])
        text += f"; the {rival} of each word reaches {baselines[rival]['test'][name]:.2%}"
    if not test["unknown_tokens"]:
        return f"{text}. Training showed all of its words."
    hard = f"{test['unknown_accuracy']:.2%} of the {test['unknown_tokens']:,} words"
    return f"{text}. Right on {hard} that training did not show."


def model_table(models: Mapping[str, Mapping[str, Any]], own: str) -> str:
    """Models side by side, the best on top."""
    has_spans = any("f1" in figures["test"] for figures in models.values())
    names = ("f1", "precision", "recall", "accuracy") if has_spans else ("accuracy",)
    names = (*names, "unknown_accuracy")
    heads = [f"{name.replace('_', ' ')}, %" for name in names]
    ordered = sorted(models.items(), key=lambda item: -item[1]["test"][names[0]])
    rows = [
        (
            name,
            *(f"{100 * figures['test'][key]:.2f}" for key in names),
            f"{figures['parameters']:,}",
            f"{figures['seconds']:.1f}",
        )
        for name, figures in ordered
    ]
    return table(("model", *heads, "parameters", "seconds"), rows, own)


def _learning(metrics: Mapping[str, Any], log: Rows) -> list[str]:
    if not log:
        return []
    metric = "f1" if "f1" in metrics["valid"] else "accuracy"
    baselines = {name: m["valid"][metric] for name, m in _named(metrics["baselines"]).items()}
    clipped = metrics["training"]["clipped_share"]
    caption = f"The gradient was clipped on {clipped:.0%} of the steps."
    return [
        "<h2>Learning</h2>",
        figure(tagging_curves(log, metric, baselines), "The dashed line is the baseline on valid."),
        figure(gradients(log, metrics["training"]["gradient_clip"]), caption),
    ]


def _types(metrics: Mapping[str, Any]) -> list[str]:
    what = "entity" if "f1" in metrics["test"] else "tag"
    ordered = sorted(metrics["by_type"].items(), key=lambda item: -item[1]["expected"])
    rows = [
        (
            kind,
            *(f"{100 * figures[name]:.2f}" for name in ("precision", "recall", "f1")),
            f"{figures['expected']:,.0f}",
        )
        for kind, figures in ordered
    ]
    heads = (what, "precision, %", "recall, %", "F1, %", "in the test text")
    return [f"<h2>By {what}</h2>", table(heads, rows)]


def _confusion(table: Mapping[str, Any]) -> list[str]:
    caption = "Rows are the gold tags, columns the predicted ones; shares under 0.5 % are left out."
    if table["left_out"]:
        caption += f" {table['left_out']:,} words with rarer tags are not drawn."
    return [figure(confusion(table["tags"], table["counts"]), caption)]


def _unseen(unseen: Mapping[str, int]) -> list[str]:
    if not unseen:
        return []
    named = ", ".join(f"{tag} ({count})" for tag, count in unseen.items())
    return [
        f'<p class="note">Tags of the test text that were not in the training text, always counted '
        f"as wrong: {escape(named)}.</p>"
    ]


def _samples(samples: list[str]) -> list[str]:
    quotes = [f"<blockquote>{escape(sample)}</blockquote>" for sample in samples]
    return ["<h2>What it says of the test text</h2>", *quotes] if quotes else []


def _named(baselines: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): figures for name, figures in baselines.items()}
