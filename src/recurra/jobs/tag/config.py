"""What a tagging run is made from: text, model, training. Flat keys, all different."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from recurra.cells import find_cell
from recurra.jobs.run_config import DataOptions, RunConfig
from recurra.training.configuration import Options
from recurra.training.options import Positive

Share = Annotated[float, Field(ge=0, lt=1)]
DEFAULT_EMBEDDING_SIZE = 100


class TaggedTextOptions(DataOptions):
    """The text and its tags: CoNLL-U files, or columns as in CoNLL-2003. None means the embedded
    roles of Python's tokens; the last twentieth of `data` is valid, the one before that test, where
    these are not named.

    Attributes:
        column: the tag's: a name of CoNLL-U or CoNLL-2003 (upos, xpos, …, pos, chunk, ner) or a
            number from 0, or from -1 backwards; none means upos, or the last one.
        scheme: what entities are learned in: bio, bioes, auto (bio, if the tags hold entities) or
            none (tags as they are). Answers are in the text's own scheme.
        minimum_count: a word seen less often in the training text is unknown.
        lowercase: fold words, not characters.
        vectors: a text file of pretrained word vectors (GloVe, word2vec, fastText).
        vector_words: how many of its first words to know besides the text's own.
        freeze_vectors: keep words' vectors as they are.
    """

    column: str | int | None = None
    scheme: Literal["auto", "bio", "bioes", "none"] = "auto"
    minimum_count: Positive = 1
    lowercase: bool = False
    vectors: str | None = None
    vector_words: Annotated[int, Field(ge=0)] = 50_000
    freeze_vectors: bool = False

    def absolute(self) -> Self:
        """The same data, found from any working folder."""
        found = super().absolute()
        if self.vectors is None:
            return found
        vectors = str(Path(self.vectors).expanduser().absolute())
        return found.model_copy(update={"vectors": vectors})


class BatchOptions(Options):
    """How sentences are put into batches, which hold sentences of about equal length.

    Attributes:
        batch_tokens: words of a batch at most, padding included.
    """

    batch_tokens: Positive = 1000


class NetworkOptions(Options):
    """The network.

    Attributes:
        cell: name of a recurrence; `recurra doctor` lists them.
        embedding_size: size of a word's own vector; none means the pretrained vectors', or 100.
        hidden_size: units of each layer and direction.
        num_layers: layers, one on the other.
        bidirectional: read from both ends; without it, and without crf, it answers word by word.
        character_encoder: recurrent, convolutional or none.
        character_embedding_size: size of a character's vector.
        character_size: size of a word's vector from its characters.
        affix_size: size of a word's vector from its first and last characters; 0 means none.
        crf: tags depend on each other; none means where they hold entities.
        residual: add each layer's input to its output.
        backend: of the recurrent layers.
    """

    cell: str = "lstm"
    embedding_size: Positive | None = None
    hidden_size: Positive = 200
    num_layers: Positive = 1
    bidirectional: bool = True
    character_encoder: Literal["recurrent", "convolutional", "none"] = "recurrent"
    character_embedding_size: Positive = 32
    character_size: Positive = 64
    affix_size: Annotated[int, Field(ge=0)] = 0
    crf: bool | None = None
    residual: bool = False
    backend: str = "auto"


class RegularisationOptions(Options):
    """What keeps the network from learning by rote.

    Attributes:
        unknown_dropout: α of α / (α + n), with which a word seen n times is read as unknown.
        input_dropout: share of the words' features that is dropped.
        hidden_dropout: the same between recurrent layers.
        dropout: the same before the tags' scores.
        recurrent_dropout: share of h dropped before the recurrent product.
        weight_dropout: share of the recurrent weights dropped.
        zoneout: probability that a unit keeps its old state.
    """

    unknown_dropout: float = Field(default=0.25, ge=0)
    input_dropout: Share = 0.3
    hidden_dropout: Share = 0.3
    dropout: Share = 0.4
    recurrent_dropout: Share = 0.0
    weight_dropout: Share = 0.0
    zoneout: Share = 0.0


class TaggerConfig(RunConfig):
    """A tagging run.

    Attributes:
        task: "tag".
    """

    task: Literal["tag"] = "tag"
    text: TaggedTextOptions = TaggedTextOptions()
    batches: BatchOptions = BatchOptions()
    network: NetworkOptions = NetworkOptions()
    regularisation: RegularisationOptions = RegularisationOptions()

    @field_validator("network")
    @classmethod
    def _has_a_known_cell(cls, network: NetworkOptions) -> NetworkOptions:
        find_cell(network.cell)
        if network.character_encoder == "recurrent" and network.character_size % 2:
            raise ValueError(
                f"character_size={network.character_size} must be even: two directions"
            )
        return network

    def network_arguments(self, *, has_spans: bool, vector_size: int | None) -> dict[str, Any]:
        """The model's arguments, but for the sizes of vocabularies.

        Args:
            has_spans: tags hold entities.
            vector_size: of pretrained vectors.
        """
        arguments = {**self.network.model_dump(), **self.regularisation.model_dump()}
        own = self.network.embedding_size
        arguments["embedding_size"] = own or vector_size or DEFAULT_EMBEDDING_SIZE
        arguments["crf"] = self.has_crf(has_spans)
        return arguments

    def has_crf(self, has_spans: bool) -> bool:
        """Whether tags depend on each other."""
        return has_spans if self.network.crf is None else self.network.crf

    def description(self, *, has_spans: bool = False) -> str:
        """The model in a few words.

        Example:
            >>> TaggerConfig().description(has_spans=True)
            'BiLSTM-CRF, 1 layer of 200'
        """
        network = self.network
        layers = "1 layer" if network.num_layers == 1 else f"{network.num_layers} layers"
        name = ("Bi" if network.bidirectional else "") + network.cell.upper()
        crf = "-CRF" if self.has_crf(has_spans) else ""
        return f"{name}{crf}, {layers} of {network.hidden_size}"
