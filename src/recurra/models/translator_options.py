"""Which options of an encoder-decoder there are, and which exclude each other."""

from collections.abc import Mapping
from typing import Any

from recurra.errors import ArgumentError
from recurra.models.attention import SCORES

TIES = ("none", "target", "all")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what a `RecurrentTranslator` cannot be made of.

    Args:
        options: all of its constructor's arguments.

    Raises:
        ArgumentError: a size under 1, a probability out of 0..1, options that exclude each other.

    Example:
        >>> import inspect
        >>> from recurra.models.translator import RecurrentTranslator
        >>> arguments = inspect.signature(RecurrentTranslator).bind(9, 9, coverage=True)
        >>> arguments.apply_defaults()
        >>> check_options(arguments.arguments)
        Traceback (most recent call last):
        recurra.errors.ArgumentError: coverage needs attention: dot, general or additive
    """
    for name, value in options.items():
        is_size = name.endswith(("_size", "_vocabulary")) or name == "num_layers"
        if is_size and value < 1:
            raise ArgumentError(f"{name}={value} must be at least 1")
        is_share = name.endswith("dropout") or name in ("label_smoothing", "zoneout")
        if is_share and not 0 <= value <= 1:
            raise ArgumentError(f"{name}={value} is no probability; it must be in 0..1")
    if options["attention"] not in ("none", *SCORES):
        known = ", ".join(("none", *SCORES))
        raise ArgumentError(f"attention {options['attention']!r} is unknown; use one of {known}")
    if options["tie_embeddings"] not in TIES:
        raise ArgumentError(
            f"tie_embeddings={options['tie_embeddings']!r}; use one of {', '.join(TIES)}"
        )
    sizes = options["source_vocabulary"], options["target_vocabulary"]
    if options["tie_embeddings"] == "all" and sizes[0] != sizes[1]:
        raise ArgumentError(
            f"tie_embeddings='all' needs one joint vocabulary, got {sizes[0]} and {sizes[1]} words"
        )
    needing = [name for name in ("input_feeding", "coverage") if options[name]]
    needing += ["coverage_loss"] if options["coverage_loss"] else []
    if needing and options["attention"] == "none":
        raise ArgumentError(f"{needing[0]} needs attention: dot, general or additive")
    stepwise = [n for n in ("recurrent_dropout", "weight_dropout") if options[n]]
    if options["input_feeding"] and stepwise:
        raise ArgumentError(
            f"input_feeding and {stepwise[0]} exclude each other: its one mask for all steps would "
            "be drawn anew at every step; use dropout and input_dropout"
        )
    if options["input_feeding"] and options["hidden_dropout"] and options["variational"]:
        raise ArgumentError(
            "input_feeding and a variational hidden_dropout exclude each other, since layers run "
            "step by step; set variational=False or hidden_dropout=0"
        )
