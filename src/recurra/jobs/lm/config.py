"""What a language-modelling run is made from: text, model, training. Flat keys, all different."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recurra.cells import find_cell
from recurra.insight.language_model_report import model_name
from recurra.jobs.run_config import DataOptions, RunConfig
from recurra.training.configuration import Options
from recurra.training.options import Positive

Share = Annotated[float, Field(ge=0, lt=1)]


class TextOptions(DataOptions):
    """The text and its tokens. None means the embedded documentation of Python; its last twentieth
    is test, the twentieth before that valid, where these are not named.

    Attributes:
        tokenizer: "word", "bpe" or "char".
        vocabulary_size: most entries of the vocabulary; needed by bpe only.
        minimum_count: a word seen less often in the training text is unknown.
        lowercase: fold case before anything else.
        split_punctuation: separate punctuation from words; else words stand between white space.
    """

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
        smoothing: how unseen n-grams get their probability: kneser_ney (interpolated, modified),
            witten_bell, katz, stupid_backoff, add_k or maximum_likelihood.
        add_k: what add_k adds to each count.
        memory_mib: bound of the memory that counting works in, in MiB; beyond it, counts are sorted
            on disk. None means all in memory.
        arpa: write the model as model.arpa.gz, too, for other tools.
        baselines: orders of the modified Kneser-Ney models to measure beside a neural model.
    """

    order: Annotated[int, Field(ge=1, le=20)] = 5
    smoothing: str = "kneser_ney"
    add_k: Annotated[float, Field(gt=0)] = 1.0
    memory_mib: Positive | None = None
    arpa: bool = False
    baselines: tuple[Positive, ...] = (5, 3)


class NetworkOptions(Options):
    """The network; the NNLM has `hidden_size`, `embedding_size` and `direct` only.

    Attributes:
        cell: name of a recurrence; `recurra doctor` lists them.
        hidden_size: units of a layer.
        num_layers: layers, one on the other.
        embedding_size: numbers a token becomes; none means `hidden_size`.
        tie_weights: the output's weights are the embedding's; the last layer then has
            `embedding_size` units.
        residual: add each layer's input to its output.
        cutoffs: bounds of an adaptive softmax's clusters; none means the full softmax, exact.
        direct: the NNLM's direct connections from words to output.
        backend: of the recurrent layers.
    """

    cell: str = "lstm"
    hidden_size: Positive = 256
    num_layers: Positive = 1
    embedding_size: Positive | None = None
    tie_weights: bool = True
    residual: bool = False
    cutoffs: tuple[Positive, ...] = ()
    direct: bool = False
    backend: str = "auto"


class RegularisationOptions(Options):
    """What keeps the network from learning by rote (Merity et al. 2018 for most of it).

    Attributes:
        dropout: share of the features before the softmax that is dropped; of all for the NNLM.
        hidden_dropout: the same between recurrent layers.
        input_dropout: the same for the embedded tokens.
        embedding_dropout: share of the vocabulary's rows dropped as a whole.
        weight_dropout: share of the recurrent weights dropped.
        recurrent_dropout: share of h dropped before the recurrent product.
        zoneout: probability that a unit keeps its old state.
        variational: one mask for all steps of a window, not one a step.
        activation_penalty: α of α·mean(h²).
        slowness_penalty: β of β·mean((h_t - h_{t-1})²).
    """

    dropout: Share = 0.5
    hidden_dropout: Share = 0.3
    input_dropout: Share = 0.5
    embedding_dropout: Share = 0.0
    weight_dropout: Share = 0.0
    recurrent_dropout: Share = 0.0
    zoneout: Share = 0.0
    variational: bool = False
    activation_penalty: float = Field(default=0.0, ge=0)
    slowness_penalty: float = Field(default=0.0, ge=0)


class LanguageModelConfig(RunConfig):
    """A language-modelling run.

    Attributes:
        task: "lm".
        model: "recurrent", "ngram" or "nnlm".
    """

    task: Literal["lm"] = "lm"
    model: Literal["recurrent", "ngram", "nnlm"] = "recurrent"
    text: TextOptions = TextOptions()
    batches: BatchOptions = BatchOptions()
    network: NetworkOptions = NetworkOptions()
    regularisation: RegularisationOptions = RegularisationOptions()
    ngram: NgramOptions = NgramOptions()

    @model_validator(mode="after")
    def _writes_arpa_of_ngrams_only(self) -> Self:
        if self.ngram.arpa and self.model != "ngram":
            raise ValueError("arpa is for an n-gram model; add --model ngram, or leave it out")
        return self

    @field_validator("network")
    @classmethod
    def _has_a_known_cell(cls, network: NetworkOptions) -> NetworkOptions:
        find_cell(network.cell)
        return network

    def network_arguments(self) -> dict[str, Any]:
        """The recurrent model's arguments."""
        arguments = self.network.model_dump(exclude={"direct"})
        arguments["embedding_size"] = self.network.embedding_size or self.network.hidden_size
        return {**arguments, **self.regularisation.model_dump()}

    def nnlm_arguments(self) -> dict[str, Any]:
        """The NNLM's arguments."""
        network = self.network
        return {
            "order": self.ngram.order,
            "hidden_size": network.hidden_size,
            "embedding_size": network.embedding_size or network.hidden_size,
            "direct": network.direct,
            "dropout": self.regularisation.dropout,
        }

    def description(self) -> str:
        """The model in a few words.

        Example:
            >>> LanguageModelConfig().description()
            'LSTM, 1 layer of 256, tied'
        """
        if self.model == "ngram":
            return model_name(f"{self.ngram.smoothing}_{self.ngram.order}")
        network = self.network
        if self.model == "nnlm":
            return f"NNLM, {self.ngram.order}-gram window, {network.hidden_size} units"
        layers = "1 layer" if network.num_layers == 1 else f"{network.num_layers} layers"
        tied = ", tied" if network.tie_weights else ""
        return f"{network.cell.upper()}, {layers} of {network.hidden_size}{tied}"
