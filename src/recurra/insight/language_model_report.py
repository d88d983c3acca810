"""The page of a language-modelling run: what was trained, and how well."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recurra.insight.figures import Rows, gradients
from recurra.insight.language_model_figures import (
    learning_curves,
    perplexity_by_model,
    seen_and_unseen,
)
from recurra.insight.report import comparison_facts, facts_table, figure, making_table, page, table


def language_model_report(metrics: Mapping[str, Any], log: Rows, config: str) -> str:
    """The page of a language-modelling run.

    Args:
        metrics: the content of `metrics.json`.
        log: the rows of `log.csv`; empty for a model without steps.
        config: the content of `config.yaml`.
    """
    name = metrics["description"]
    models = {name: metrics, **_named(metrics["baselines"])}
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(verdict(metrics))}</p>',
        model_table(models, name),
        *_overlap(models),
        *_figures(metrics, log, models, name),
        *_samples(metrics.get("samples", [])),
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
    models = {
        entry.get("description", model_name(key)): entry for key, entry in figures["models"].items()
    }
    tokens = f"{figures['training_tokens']:,} tokens"
    caption = (
        f"Every neural model read {tokens} of the same text in the same order. The dashed lines "
        "are the n-gram models, which count each token once."
    )
    parts = [
        "<h1>Language models compared</h1>",
        f'<p class="lead">The same text, the same {tokens} of training, the same test.</p>',
        model_table(models, ""),
        figure(drawn, caption),
        *comparison_facts(figures, "text"),
    ]
    return page("recurra: language models compared", parts)


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the run shows, in a sentence."""
    own = metrics["test"]["perplexity"]
    text = f"Test perplexity {own:.1f} per word over {metrics['test']['tokens']:,} tokens"
    baselines = _named(metrics["baselines"])
    if not baselines:
        return text + "."
    rival = min(baselines, key=lambda name: baselines[name]["test"]["perplexity"])
    other = baselines[rival]["test"]["perplexity"]
    word = "below" if own < other else "above"
    text = f"{text}: {abs(1 - own / other):.0%} {word} {rival}'s {other:.1f} on the same tokens."
    return text + _interpolation(metrics)


def _interpolation(metrics: Mapping[str, Any]) -> str:
    mixed = metrics.get("interpolated")
    if mixed is None:
        return ""
    return (
        f" Mixed with {model_name(mixed['with'])}, {mixed['weight']:.0%} to "
        f"{1 - mixed['weight']:.0%} as is best on valid: {mixed['test']['perplexity']:.1f}."
    )


def model_table(models: Mapping[str, Mapping[str, Any]], own: str) -> str:
    """Models side by side."""
    heads = ("model", "test perplexity", "bits per byte", "parameters", "seconds")
    rows = [
        (
            name,
            f"{figures['test']['perplexity']:.2f}",
            f"{figures['test']['bits_per_byte']:.4f}",
            f"{figures['parameters']:,}",
            f"{figures['seconds']:.1f}",
        )
        for name, figures in sorted(models.items(), key=lambda item: item[1]["test"]["perplexity"])
    ]
    return table(heads, rows, own)


def _overlap(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Figures on the test text before paragraphs that share words with train were left out."""
    found = {name: m["test_with_overlap"] for name, m in models.items() if "test_with_overlap" in m}
    if not found:
        return []
    figures = ", ".join(f"{name} {m['perplexity']:.2f}" for name, m in found.items())
    tokens = next(iter(found.values()))["tokens"]
    return [
        '<p class="note">With the paragraphs that share text with train, which reward rote '
        f"({tokens:,} tokens): {escape(figures)}.</p>"
    ]


def _figures(
    metrics: Mapping[str, Any], log: Rows, models: Mapping[str, Mapping[str, Any]], own: str
) -> list[str]:
    parts = []
    if len(models) > 1:
        perplexities = {name: m["test"]["perplexity"] for name, m in models.items()}
        caption = (
            "Perplexity is the size of the set of equally likely words that would puzzle a reader "
            "as much; every line's end is counted as a word."
        )
        parts.append(figure(perplexity_by_model(perplexities, own), caption))
    if log:
        valid = {name: m["valid"]["perplexity"] for name, m in models.items() if name != own}
        caption = (
            "The lines are the n-gram models on valid. Train is measured while dropout disturbs "
            "the model, so it may lie above valid."
        )
        parts += ["<h2>Learning</h2>", figure(learning_curves(log, valid), caption)]
        clipped = metrics["training"]["clipped_share"]
        caption = (
            f"The gradient was clipped on {clipped:.0%} of the steps. A norm that grows, or "
            "clipping on almost every step, asks for a lower learning rate."
        )
        parts.append(figure(gradients(log, metrics["training"]["gradient_clip"]), caption))
    return parts + _sparsity(metrics)


def _sparsity(metrics: Mapping[str, Any]) -> list[str]:
    models = [metrics, *metrics["baselines"].values()]
    sparsity = max((model.get("sparsity", []) for model in models), key=len)
    if not sparsity:
        return []
    unseen = {int(row["order"]): row["unseen_share"] for row in sparsity}
    own = metrics["parameters"]
    heads = ("n", "n-grams stored", "bytes", "never seen in training", "predicted at this depth")
    rows = [
        (
            str(row["order"]),
            f"{row['ngrams']:,}",
            f"{row['bytes']:,}",
            f"{row['unseen_share']:.1%}",
            f"{row['matched_share']:.1%}",
        )
        for row in sparsity
    ]
    note = (
        "A table of n-grams grows with the text and still misses most of what comes, so that most "
        "words are predicted from fewer words before them than the model's order allows; "
        f"{metrics['description']} has {own:,} parameters whatever the length of the text."
    )
    return [
        "<h2>Sparsity and storage of n-grams</h2>",
        figure(seen_and_unseen(unseen), note),
        table(heads, rows),
    ]


def _samples(samples: Sequence[str]) -> list[str]:
    if not samples:
        return []
    quotes = [f"<blockquote>{escape(sample)}</blockquote>" for sample in samples]
    return ["<h2>What it writes</h2>", *quotes]


def _named(baselines: Mapping[str, Any]) -> dict[str, Any]:
    return {model_name(name): figures for name, figures in baselines.items()}


def model_name(key: str) -> str:
    """A baseline's key in words.

    Example:
        >>> model_name("kneser_ney_5")
        'Kneser-Ney 5-gram'
    """
    words, _, order = key.rpartition("_")
    if not order.isdigit():
        return key
    return f"{'-'.join(word.capitalize() for word in words.split('_'))} {order}-gram"
