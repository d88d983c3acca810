"""What a translation run is made from: text, model, training. Flat keys, all different."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from recurra.cells import find_cell
from recurra.jobs.run_config import DataOptions, RunConfig
from recurra.tasks.translate.search import Decoding
from recurra.training.configuration import Options
from recurra.training.options import Positive

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class ParallelTextOptions(DataOptions):
    """The parallel text: two line-parallel files, the source first, or `.tsv` or `.jsonl`. None
    means the embedded dates; the last twentieth of `data` is valid, the one before that test, where
    these are not named.

    Attributes:
        source: column or key of the sentences in tables, and
        target: of their translations.
        tokenizer: bpe, word or char.
        vocabulary: joint (one for both sides) or separate.
        vocabulary_size: most tokens, of each side if separate; none means 8,000 for bpe, else all.
        minimum_count: a rarer word or character is unknown.
        lowercase: fold case, on both sides: translations are then lower-cased.
        longest: pairs with a longer side, in tokens, are not trained on.
        dates: pairs of the embedded data to train on.
    """

    source: str = "source"
    target: str = "target"
    tokenizer: Literal["bpe", "word", "char"] = "bpe"
    vocabulary: Literal["joint", "separate"] = "joint"
    vocabulary_size: Positive | None = None
    minimum_count: Positive = 1
    lowercase: bool = False
    longest: Positive = 100
    dates: Positive = 12_000


class BatchOptions(Options):
    """Batches of pairs of about equal length, and how often sentences are looked at on valid.

    Attributes:
        batch_tokens: padded tokens of a batch's longer side at most.
        choose_by: metric on valid: bleu, chrf, exact_match or nats_per_token (the loss); none means
            bleu, or chrf where most references have fewer than four words, whose BLEU is 0.
        checked_pairs: pairs of valid that are translated, greedily, at each check.
    """

    batch_tokens: Positive = 2000
    choose_by: Literal["bleu", "chrf", "exact_match", "nats_per_token"] | None = None
    checked_pairs: Positive = 1000


class NetworkOptions(Options):
    """The network; see `RecurrentTranslator`.

    Attributes:
        cell: name of a recurrence; `recurra doctor` lists them.
        embedding_size: size of a token's vector.
        hidden_size: units of each layer and direction.
        num_layers: of encoder and decoder.
        separate_weights: of encoder and decoder; false: one shared recurrence.
        source_at_every_step: the decoder reads the encoder's last state with every word.
        bidirectional: the encoder reads from both ends.
        reverse_source: the encoder reads from the end.
        attention: none, dot, general or additive.
        input_feeding: the decoder reads what its last word was made of; several times as slow.
        coverage: attention knows where it looked before.
        tie_embeddings: none, target (softmax and target) or all (source too; joint vocabulary).
        residual: add each layer's input to its output.
        backend: of the recurrent layers.
    """

    cell: str = "lstm"
    embedding_size: Positive = 256
    hidden_size: Positive = 256
    num_layers: Positive = 1
    separate_weights: bool = True
    source_at_every_step: bool = False
    bidirectional: bool = True
    reverse_source: bool = False
    attention: Literal["none", "dot", "general", "additive"] = "dot"
    input_feeding: bool = False
    coverage: bool = False
    tie_embeddings: Literal["none", "target", "all"] = "none"
    residual: bool = False
    backend: str = "auto"


class RegularisationOptions(Options):
    """What keeps the network from learning by rote, and what is added to the loss.

    Attributes:
        label_smoothing: share of the target's probability that is spread over all words.
        scheduled_sampling: share of previous words that are the model's own guesses in the end.
        sampling_epochs: epochs in which that share grows from 0.
        coverage_loss: weight of looking at a place twice.
        dropout: share dropped before the softmax.
        input_dropout: the same of embedded words.
        hidden_dropout: the same between layers.
        variational: these draw one mask for all steps of a sentence.
        recurrent_dropout: share of h dropped before the recurrent product.
        weight_dropout: share of the recurrent weights dropped.
        zoneout: probability that a unit keeps its old state.
    """

    label_smoothing: Share = 0.0
    scheduled_sampling: Share = 0.0
    sampling_epochs: NotNegative = 5.0
    coverage_loss: NotNegative = 0.0
    dropout: Share = 0.2
    input_dropout: Share = 0.1
    hidden_dropout: Share = 0.0
    variational: bool = True
    recurrent_dropout: Share = 0.0
    weight_dropout: Share = 0.0
    zoneout: Share = 0.0


class DecodingOptions(Options):
    """How translations are searched for; see `recurra.tasks.translate.search.Decoding`.

    Attributes:
        beam_size: hypotheses kept at each step; 1 is greedy.
        n_best: translations of each line.
        length_penalty: 0 ranks by probability alone, larger values prefer longer ones.
        coverage_penalty: rank lower what leaves parts of the source unseen.
        min_length: fewest tokens.
        max_length: most tokens.
        max_ratio: most tokens for each source token, plus 10; none: twice that of training.
        no_repeat_ngram: no run of so many tokens occurs twice; 0: may.
        sample: draw words instead.
        temperature: of draws.
        top_k: draw among the k likeliest.
        top_p: draw among the likeliest that make up this probability.
        draw_seed: of draws.
        replace_unknown: an unknown token is replaced by the source token it looked at most.
    """

    beam_size: Positive = 5
    n_best: Positive = 1
    length_penalty: NotNegative = 1.0
    coverage_penalty: NotNegative = 0.0
    min_length: Count = 0
    max_length: Positive = 200
    max_ratio: Annotated[float, Field(gt=0)] | None = None
    no_repeat_ngram: Count = 0
    sample: bool = False
    temperature: NotNegative = 1.0
    top_k: Positive | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    draw_seed: Count = 1
    replace_unknown: bool = True

    def decoding(self) -> Decoding:
        """For the search.

        Raises:
            ArgumentError: values that do not go together.
        """
        values = self.model_dump(exclude={"replace_unknown", "draw_seed"})
        return Decoding(**values, seed=self.draw_seed)


class TranslatorConfig(RunConfig):
    """A translation run.

    Attributes:
        task: "translate".
    """

    task: Literal["translate"] = "translate"
    text: ParallelTextOptions = ParallelTextOptions()
    batches: BatchOptions = BatchOptions()
    network: NetworkOptions = NetworkOptions()
    regularisation: RegularisationOptions = RegularisationOptions()
    decoding: DecodingOptions = DecodingOptions()

    @field_validator("network")
    @classmethod
    def _has_a_known_cell(cls, network: NetworkOptions) -> NetworkOptions:
        find_cell(network.cell)
        return network

    def network_arguments(self) -> dict[str, Any]:
        """The model's arguments, but for the sizes of vocabularies."""
        arguments = {**self.network.model_dump(), **self.regularisation.model_dump()}
        for name in ("scheduled_sampling", "sampling_epochs"):
            del arguments[name]
        return arguments

    def description(self) -> str:
        """The model in a few words.

        Example:
            >>> TranslatorConfig().description()
            'BiLSTM encoder, LSTM decoder, dot attention, 1 layer of 256'
        """
        network = self.network
        layers = "1 layer" if network.num_layers == 1 else f"{network.num_layers} layers"
        cell = network.cell.upper()
        words = [f"{'Bi' if network.bidirectional else ''}{cell} encoder, {cell} decoder"]
        words += [] if network.separate_weights else ["shared weights"]
        if network.attention != "none":
            words.append(f"{network.attention} attention")
        for name in ("input_feeding", "coverage", "reverse_source", "source_at_every_step"):
            words += [name.replace("_", " ")] if getattr(network, name) else []
        return ", ".join([*words, f"{layers} of {network.hidden_size}"])
