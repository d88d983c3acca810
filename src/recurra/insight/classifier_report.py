"""The page of a classification run: what was trained, how well, and how sure it is."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recurra.insight import classifier_figures
from recurra.insight.figures import Rows, gradients
from recurra.insight.report import comparison_facts, facts_table, figure, making_table, page, table

NAMES = {
    "most_frequent_class": "Most frequent class",
    "channel_statistics": "Channels' statistics, logistic regression",
    "bag_of_char_ngrams_4": "Bag of character 1- to 4-grams, logistic regression",
    "bag_of_word_ngrams_2": "Bag of words and word pairs, logistic regression",
    "bag_of_bpe_ngrams_2": "Bag of byte pairs and their pairs, logistic regression",
}


def model_name(key: str) -> str:
    """A baseline's key in words.

    Example:
        >>> model_name("most_frequent_class")
        'Most frequent class'
    """
    return NAMES.get(key, key)


def models_of(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of a run's model, of its network alone if it mixes, and of its baselines."""
    models: dict[str, Mapping[str, Any]] = {metrics["description"]: metrics}
    if "network_alone" in metrics:
        models["The network alone"] = metrics["network_alone"]
    return models | {model_name(key): value for key, value in metrics["baselines"].items()}


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the run shows, in a sentence."""
    test = metrics["test"]
    text = f"{100 * test['accuracy']:.1f} % of {test['examples']:,} test examples are right"
    baselines = metrics["baselines"]
    if not baselines:
        return text + "."
    rival = max(baselines, key=lambda name: baselines[name]["test"]["accuracy"])
    other = baselines[rival]["test"]["accuracy"]
    text += f"; {model_name(rival)[0].lower()}{model_name(rival)[1:]}: {100 * other:.1f} %."
    if "calibration_error" in test:
        text += f" Its probabilities are off by {100 * test['calibration_error']:.1f} % on average."
    return text


def classifier_report(metrics: Mapping[str, Any], log: Rows, config: str) -> str:
    """The page of a classification run.

    Args:
        metrics: the content of `metrics.json`.
        log: the rows of `log.csv`.
        config: the content of `config.yaml`.
    """
    name = metrics["description"]
    models = models_of(metrics)
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(verdict(metrics))}</p>',
        model_table(models, name),
        *_figures(metrics, log, models, name),
        *_by_class(metrics),
        *_samples(metrics.get("samples", [])),
        "<h2>The examples</h2>",
        facts_table(metrics["data"]),
        "<h2>How this was made</h2>",
        making_table(metrics, "steps"),
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
    epochs = f"{figures['epochs']} epochs"
    caption = (
        f"Every network read the same examples in the same order for {epochs}. The dashed lines "
        "are the baselines. One seed: differences of a point may be chance."
    )
    parts = [
        "<h1>Classifiers compared</h1>",
        f'<p class="lead">The same examples, the same {epochs}, the same test.</p>',
        model_table(models, ""),
        figure(drawn, caption),
        *comparison_facts(figures, "examples"),
    ]
    return page("recurra: classifiers compared", parts)


def model_table(models: Mapping[str, Mapping[str, Any]], own: str) -> str:
    """Models side by side."""
    heads = ("model", "test accuracy", "macro F1", "log loss", "parameters", "seconds")
    rows = [
        (
            name,
            f"{100 * figures['test']['accuracy']:.2f} %",
            f"{figures['test']['macro_f1']:.4f}",
            f"{figures['test']['log_loss']:.4f}",
            f"{figures['parameters']:,}",
            f"{figures['seconds']:.1f}",
        )
        for name, figures in sorted(models.items(), key=lambda item: -item[1]["test"]["accuracy"])
    ]
    return table(heads, rows, own)


def _figures(
    metrics: Mapping[str, Any], log: Rows, models: Mapping[str, Mapping[str, Any]], own: str
) -> list[str]:
    parts = []
    if len(models) > 1:
        accuracies = {name: m["test"]["accuracy"] for name, m in models.items()}
        caption = "The bag of n-grams does not know the order of its n-grams; the network does."
        parts.append(figure(classifier_figures.accuracy_by_model(accuracies, own), caption))
    if log:
        rivals = {model_name(key): value for key, value in metrics["baselines"].items()}
        if "network_alone" in metrics:  # which is what the curves are of
            rivals["Mixed with n-grams"] = metrics
        valid = {name: figures["valid"]["accuracy"] for name, figures in rivals.items()}
        caption = "Log loss that rises on valid while it falls on train: learning by rote."
        if "valid_shared_by" in metrics["data"]:
            caption += (
                f" Each valid example is answered by the one network of "
                f"{metrics['data']['valid_shared_by']} that did not learn from it: on test, where "
                "all answer together, they mostly do better than such a single one."
            )
        parts += ["<h2>Learning</h2>", figure(classifier_figures.learning(log, valid), caption)]
        clipped = metrics["training"]["clipped_share"]
        caption = f"The gradient was clipped on {clipped:.0%} of the steps."
        parts.append(figure(gradients(log, metrics["training"]["gradient_clip"]), caption))
    if "confusion" in metrics:
        drawn = classifier_figures.confusion(metrics["confusion"], metrics["classes"])
        caption = "Rows are true classes with their number of examples; the diagonal is right."
        parts += ["<h2>Confusion</h2>", figure(drawn, caption)]
    if "reliability" in metrics:
        error = metrics["test"]["calibration_error"]
        caption = (
            "Bars below the dashed line: surer than right. The points stand at the mean "
            "probability of their bin."
        )
        drawn = classifier_figures.reliability(metrics["reliability"], error)
        parts += ["<h2>Calibration</h2>", figure(drawn, caption)]
    return parts


def _by_class(metrics: Mapping[str, Any]) -> list[str]:
    scores = metrics.get("f1_by_class")
    if not scores:
        return []
    counts = [sum(row) for row in metrics["confusion"]]
    rows = [
        (name, f"{count:,}", f"{score:.3f}")
        for (name, score), count in zip(scores.items(), counts, strict=True)
    ]
    return ["<h2>By class</h2>", table(("class", "test examples", "F1"), rows)]


def _samples(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    if not samples:
        return []
    rows = "".join(
        f"<tr><td>{escape(s['text'])}</td><td>{escape(s['answer'])}</td>"
        f"<td class=number>{s['probability']:.2f}</td><td>{escape(s['truth'])}</td></tr>"
        for s in samples
    )
    head = (
        "<tr><th>test example</th><th>answer</th><th class=number>probability</th>"
        "<th>truth</th></tr>"
    )
    return ["<h2>What it says</h2>", f"<table>{head}{rows}</table>"]
