"""Classes in a hierarchy: a model answers with a leaf, and a class has the sum of its leaves."""

import torch
from torch import Tensor


def log_p_of_classes(log_p: Tensor, class_of_leaf: Tensor, classes: int) -> Tensor:
    """log p of each class, (…, classes), from those of all leaves.

    Args:
        log_p: of each leaf, (…, leaves), in nats.
        class_of_leaf: the class that each is in, (leaves,), int64.
        classes: how many.

    Example:
        >>> log_p = torch.tensor([0.2, 0.5, 0.3]).log()
        >>> log_p_of_classes(log_p, torch.tensor([1, 0, 1]), 2).exp()
        tensor([0.5000, 0.5000])
    """
    is_other = class_of_leaf != torch.arange(classes, device=log_p.device).unsqueeze(1)
    return log_p.unsqueeze(-2).masked_fill(is_other, -torch.inf).logsumexp(-1)
