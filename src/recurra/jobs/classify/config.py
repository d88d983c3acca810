"""What a classification run is made from: examples, model, training. Flat keys, all different."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recurra.cells import find_cell
from recurra.jobs.run_config import DataOptions, RunConfig
from recurra.training.configuration import Options
from recurra.training.options import Positive

Share = Annotated[float, Field(ge=0, lt=1)]


class ExampleOptions(DataOptions):
    """The examples. None means the embedded names of things in twenty languages; a tenth of the
    data is test and a tenth valid, of each class, where these are not named.

    Attributes:
        text: the column of texts, of tables. One file for each class needs neither column.
        label: the column of labels.
        label_separator: what stands between several labels in one field.
        hierarchy_separator: what stands between a class and a finer one in it, as in `NUM:date`.
            Training then learns all that the labels say; answers and figures are of the classes.
        multi_label: any number of labels may hold for an example.
        id: the column that tells series apart, of long tables of numbers; series in `.ts` files
            need none of these three.
        time: the column by which a series' rows are ordered; none: the order of the file.
        channels: the columns of values; none: all that are not named here.
        tokenizer: of texts: "word", "bpe" or "char".
        vocabulary_size: most entries of the vocabulary; needed by bpe only.
        minimum_count: a word or character seen less often in the training texts is unknown.
        lowercase: fold case before anything else.
        split_punctuation: separate punctuation from words; else words stand between white space.
        share_valid: learn from valid, too, with several `members`: each leaves out a share of its
            own, which it alone then answers. Figures on valid are then those of single members.
    """

    text: str = "text"
    label: str = "label"
    label_separator: str | None = None
    hierarchy_separator: Annotated[str, Field(min_length=1)] | None = None
    multi_label: bool = False
    id: str | None = None
    time: str | None = None
    channels: tuple[str, ...] = ()
    tokenizer: Literal["word", "bpe", "char"] = "word"
    vocabulary_size: Positive | None = None
    minimum_count: Positive = 1
    lowercase: bool = False
    split_punctuation: bool = True
    share_valid: bool = False


class BatchOptions(Options):
    """How training examples make batches.

    Attributes:
        batch_size: examples of a batch, of similar length.
        longest: in training, examples are cut after so many steps; they never are in use.
        choose_by: the metric on valid that chooses the weights: accuracy, macro_f1, log_loss (for a
            small valid part) or, for several labels, micro_f1; none: accuracy or micro_f1.
    """

    batch_size: Positive = 32
    longest: Positive = 2000
    choose_by: Literal["accuracy", "macro_f1", "micro_f1", "log_loss"] | None = None


class NetworkOptions(Options):
    """The network.

    Attributes:
        members: networks side by side, each from its own start, whose probabilities are averaged:
            better than one where examples are few, at so many times the cost.
        cell: name of a recurrence; `recurra doctor` lists them.
        hidden_size: units of a layer and direction.
        num_layers: layers, one on the other.
        bidirectional: read from both ends; without, the model answers after each step of a stream.
        pooling: how outputs become a vector: last, mean, max, attention, or concat of the first
            three.
        embedding_size: size of a token's own vector.
        character_encoder: of words, what reads their characters besides: recurrent, convolutional
            or none.
        character_embedding_size: size of a character's vector.
        character_size: size of a word's vector from its characters.
        affix_size: of words, size of a vector from their first and last characters; 0 means none.
        init: what the recurrent weights start as: uniform, orthogonal, identity or chrono; none:
            the cell's own.
        forget_bias: the bias of gate f at the start, for cells that have one.
        backend: of the recurrent layers.
    """

    members: Positive = 1
    cell: str = "gru"
    hidden_size: Positive = 128
    num_layers: Positive = 1
    bidirectional: bool = True
    pooling: Literal["last", "mean", "max", "attention", "concat"] = "max"
    embedding_size: Positive = 64
    character_encoder: Literal["recurrent", "convolutional", "none"] = "none"
    character_embedding_size: Positive = 32
    character_size: Positive = 64
    affix_size: Annotated[int, Field(ge=0)] = 0
    init: Literal["uniform", "orthogonal", "identity", "chrono"] | None = None
    forget_bias: float | None = None
    backend: str = "auto"


class RegularisationOptions(Options):
    """What keeps the network from learning by rote, or from one class alone.

    Attributes:
        dropout: share of the vector's features that is dropped.
        hidden_dropout: the same between recurrent layers.
        input_dropout: the same for embedded tokens, or numbers.
        token_dropout: share of the tokens read as the unknown one.
        recurrent_dropout: share of h dropped before the recurrent product.
        weight_dropout: share of the recurrent weights dropped.
        zoneout: probability that a unit keeps its old state.
        label_smoothing: share of the target given to all classes alike.
        class_weights: "none"; "balanced": all classes count alike, however frequent; or a weight by
            label, 1 for others.
    """

    dropout: Share = 0.5
    hidden_dropout: Share = 0.3
    input_dropout: Share = 0.3
    token_dropout: Share = 0.0
    recurrent_dropout: Share = 0.0
    weight_dropout: Share = 0.0
    zoneout: Share = 0.0
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"


class BaselineOptions(Options):
    """What the model is measured beside: the most frequent class, and a logistic regression.

    Attributes:
        baselines: measure them.
        mix_ngrams: of texts, answer with the mean of the network's probabilities and those of the
            logistic regression over n-grams, in the shares that are best on valid.
        penalties: of the logistic regression's squared weights; the best on valid is taken.
    """

    baselines: bool = True
    mix_ngrams: bool = False
    penalties: tuple[Annotated[float, Field(gt=0)], ...] = (0.3, 0.1, 0.03, 0.01)


class ClassifierConfig(RunConfig):
    """A classification run.

    Attributes:
        task: "classify".
    """

    task: Literal["classify"] = "classify"
    examples: ExampleOptions = ExampleOptions()
    batches: BatchOptions = BatchOptions()
    network: NetworkOptions = NetworkOptions()
    regularisation: RegularisationOptions = RegularisationOptions()
    baseline: BaselineOptions = BaselineOptions()

    @field_validator("network")
    @classmethod
    def _has_a_known_cell(cls, network: NetworkOptions) -> NetworkOptions:
        find_cell(network.cell)
        return network

    @model_validator(mode="after")
    def _spells_words_alone(self) -> Self:
        tokenizer = self.examples.tokenizer
        if self.is_spelled and tokenizer != "word":
            raise ValueError(
                f"character_encoder and affix_size are of words, but tokenizer={tokenizer}; use "
                "tokenizer=word, or character_encoder=none and affix_size=0"
            )
        return self

    @model_validator(mode="after")
    def _shares_valid_among_members(self) -> Self:
        if self.examples.share_valid and self.network.members == 1:
            raise ValueError(
                "share_valid=true needs members of 2 or more, each of which leaves out its own "
                "share of valid; got members=1"
            )
        return self

    @field_validator("examples")
    @classmethod
    def _has_one_hierarchy(cls, examples: ExampleOptions) -> ExampleOptions:
        if examples.hierarchy_separator and examples.multi_label:
            raise ValueError("hierarchy_separator is of one label each, not for multi_label=true")
        return examples

    @property
    def is_spelled(self) -> bool:
        """Whether words are read with their characters."""
        return self.network.character_encoder != "none" or self.network.affix_size > 0

    def reading(self) -> dict[str, Any]:
        """What decides how the examples are read beside their own options; see `read_material`."""
        return {"is_spelled": self.is_spelled, "members": self.network.members}

    def network_arguments(self) -> dict[str, Any]:
        """The model's arguments, but for what the data decides."""
        regularisation = self.regularisation.model_dump(exclude={"class_weights"})
        return {**self.network.model_dump(exclude={"members"}), **regularisation}

    def description(self) -> str:
        """The model in a few words.

        Example:
            >>> ClassifierConfig().description()
            'GRU, 1 layer of 2 × 128, max pooling'
        """
        network = self.network
        layers = "1 layer" if network.num_layers == 1 else f"{network.num_layers} layers"
        units = f"2 × {network.hidden_size}" if network.bidirectional else str(network.hidden_size)
        found = f"{network.cell.upper()}, {layers} of {units}, {network.pooling} pooling"
        found += f", mean of {network.members}" if network.members > 1 else ""
        return f"{found}, mixed with n-grams" if self.baseline.mix_ngrams else found
