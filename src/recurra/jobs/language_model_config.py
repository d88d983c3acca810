"""What a language-modelling run is made from: text, model, training. Flat keys, all different."""

from typing import Annotated, Literal

from pydantic import Field

from recurra.training.configuration import Options
from recurra.training.options import HardwareOptions, Positive, TrainingOptions

Share = Annotated[float, Field(ge=0, lt=1)]


class TextOptions(Options):
    """The text and its tokens.

    Attributes:
        data: files, folders or globs to train on; none means the embedded documentation of Python.
        valid: the same, to choose the model by; none means the last twentieth of `data`.
        test: the same, to report on; none means the twentieth before that.
        tokenizer: "word", "bpe" or "char".
        vocabulary_size: most entries of the vocabulary; needed by bpe only.
        minimum_count: a word seen less often in the training text is unknown.
        lowercase: fold case before anything else.
        split_punctuation: separate punctuation from words; else words stand between white space.
    """

    data: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    tokenizer: Literal["word", "bpe", "char"] = "word"
    vocabulary_size: Positive | None = None
    minimum_count: Positive = 2
    lowercase: bool = False
    split_punctuation: bool = True


class BatchOptions(Options):
    """How the training text is cut into batches.

    Attributes:
        batch_size: lanes read side by side.
        bptt_steps: steps of a window, through which gradients flow.
        bptt_jitter: draw the window's length anew each time (Merity et al. 2018, section 3.1).
    """

    batch_size: Positive = 20
    bptt_steps: Positive = 35
    bptt_jitter: bool = False


class NgramOptions(Options):
    """The n-gram model, and the n-gram baselines of neural models.

    Attributes:
        order: longest n-gram, also of the NNLM's window.
        smoothing: how unseen n-grams get their probability.
        baselines: orders of the modified Kneser-Ney models to measure beside a neural model.
    """

    order: Annotated[int, Field(ge=1, le=20)] = 5
    smoothing: str = "kneser_ney"
    baselines: tuple[Positive, ...] = (5, 3)
