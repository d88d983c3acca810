"""The learning rate over time, as pure functions of the progress."""

import math


def learning_rate_factor(
    schedule: str, step: int, progress: float, *, warmup_steps: int, final_share: float
) -> float:
    """Factor on the highest learning rate.

    Args:
        schedule: "constant", "linear", "cosine", "inverse_sqrt" or "plateau" (whose falls depend
            on the valid metric and are the trainer's; here it is constant).
        step: steps done, from 0.
        progress: share of the training done, in [0, 1], by steps or by the clock.
        warmup_steps: the factor rises linearly over these, from 1/warmup_steps to 1.
        final_share: the factor at progress 1, for "linear" and "cosine".

    Example:
        >>> learning_rate_factor("cosine", 0, 0.0, warmup_steps=4, final_share=0.1)
        0.25
        >>> learning_rate_factor("cosine", 9, 0.5, warmup_steps=4, final_share=0.0)
        0.5
        >>> learning_rate_factor("inverse_sqrt", 399, 0.5, warmup_steps=100, final_share=0.0)
        0.5
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    progress = min(max(progress, 0.0), 1.0)
    if schedule == "linear":
        shape = final_share + (1 - final_share) * (1 - progress)
    elif schedule == "cosine":
        shape = final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress))
    elif schedule == "inverse_sqrt":
        shape = math.sqrt(max(warmup_steps, 1) / max(step + 1, warmup_steps, 1))
    else:
        shape = 1.0
    return warmup * shape
