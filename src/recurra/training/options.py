"""How to train: optimiser, schedule, limits. One frozen record, the same for every task."""

from typing import Annotated, Literal

from pydantic import Field

from recurra.training.configuration import Options

Positive = Annotated[int, Field(ge=1)]
Optimizer = Literal["adamw", "adam", "sgd", "nt-asgd"]
Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt", "plateau"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


class TrainingOptions(Options):
    """How a model is trained.

    Attributes:
        optimizer: "nt-asgd" is SGD that starts to average its weights when the valid metric has
            stopped falling for 5 checks (Merity et al. 2018, algorithm 1).
        learning_rate: at its highest, after the warm-up.
        weight_decay: decoupled for adamw, L2 otherwise; on matrices only, not on biases.
        momentum: of sgd.
        warmup_steps: the rate rises linearly from zero over that many steps.
        schedule: shape of the rate after the warm-up, down to `final_learning_rate_share` of the
            highest at the end. "plateau" divides it by 4 when the valid metric does not improve.
        gradient_clip: largest global norm of the gradient; 0 switches clipping off.
        max_epochs: passes over the training data.
        max_minutes: limit on the time spent training. The learning rate then follows the clock
            wherever that is further on than the steps, so that it ends low in either case; two
            runs in which it once was ahead are not equal to the bit.
        patience: stop after that many checks on valid without improvement; 0 never stops.
        average_checks: in the end the weights of so many checks, the best on valid, are averaged;
            their mean is kept if it is better on valid than the best of them. 1: no averaging.
        checks_per_epoch: how often the valid metric is measured.
        checkpoint_steps: steps between checkpoints inside an epoch.
    """

    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(default=0.003, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    warmup_steps: int = Field(default=100, ge=0)
    schedule: Schedule = "cosine"
    final_learning_rate_share: float = Field(default=0.02, ge=0, le=1)
    gradient_clip: float = Field(default=1.0, ge=0)
    max_epochs: Positive = 20
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    patience: int = Field(default=5, ge=0)
    average_checks: Positive = 1
    checks_per_epoch: Positive = 1
    checkpoint_steps: Positive = 500


class HardwareOptions(Options):
    """On what to train; Lightning's meanings.

    Attributes:
        precision: "32-true", or mixed precision with float32 weights.
        devices: processes on this machine, each with its part of every batch.
        num_nodes: machines.
        accelerator: "auto" takes a GPU if there is one.
    """

    precision: Precision = "32-true"
    devices: Positive = 1
    num_nodes: Positive = 1
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
