"""A long text read in parallel lanes, window by window."""

import random

from torch import Tensor

from recurra.errors import ArgumentError, DataError


class Lanes:
    """Cuts a token stream into `batch_size` contiguous lanes, read side by side in windows.

    Window k + 1 goes on where window k stopped in every lane, so a recurrent model can carry its
    state over: truncated back-propagation through time. Up to `batch_size - 1` tokens at the end,
    which would make lanes of unequal length, are left out, and so is the very first as a target.

    Args:
        tokens: (tokens,) integer.
        batch_size: lanes.
        bptt_steps: steps of a window; the last one of an epoch may be shorter.
        seed: of the jitter.
        jitter: move the windows' bounds anew in each epoch, by up to a quarter of a window either
            way, so that gradients are not always cut at the same places (after Merity et al. 2018,
            section 3.1, who draw lengths from a normal distribution; here the number of windows
            stays the same).

    Raises:
        ArgumentError: sizes under 1, or tokens that are no list of integers.
        DataError: fewer tokens than every lane needs.

    Example:
        >>> import torch
        >>> lanes = Lanes(torch.arange(9), batch_size=2, bptt_steps=3)
        >>> len(lanes)
        2
        >>> inputs, targets = lanes.window(epoch=0, index=0)
        >>> inputs.t().tolist(), targets.t().tolist()
        ([[0, 1, 2], [4, 5, 6]], [[1, 2, 3], [5, 6, 7]])
    """

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        bptt_steps: int,
        *,
        seed: int = 0,
        jitter: bool = False,
    ) -> None:
        if batch_size < 1 or bptt_steps < 1:
            raise ArgumentError(
                f"batch_size={batch_size} and bptt_steps={bptt_steps} must be at least 1"
            )
        if tokens.dim() != 1 or tokens.is_floating_point():
            raise ArgumentError(
                f"tokens must be one-dimensional integers, got {tokens.dtype} of shape "
                f"{tuple(tokens.shape)}"
            )
        self.batch_size, self.bptt_steps = batch_size, bptt_steps
        self.seed, self.jitter = seed, jitter
        self.steps = (len(tokens) - 1) // batch_size
        if len(tokens) < 2:
            raise DataError(
                f"the text has {len(tokens)} tokens, too few to predict one from another"
            )
        if self.steps < 1:
            raise DataError(
                f"the text has {len(tokens)} tokens, too few for {batch_size} lanes; use more text "
                f"or a batch_size of {len(tokens) - 1} or less"
            )
        used = self.steps * batch_size
        self._inputs = tokens[:used].view(batch_size, self.steps)
        self._targets = tokens[1 : used + 1].view(batch_size, self.steps)

    def __len__(self) -> int:
        """Windows in an epoch."""
        return -(-self.steps // self.bptt_steps)

    def window(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one window, each (time, batch), int64.

        A pure function of the arguments and the seed: a resumed run reads what it would have read.
        """
        if not 0 <= index < len(self):
            raise ArgumentError(f"window {index} of {len(self)} does not exist")
        span = slice(self._bound(epoch, index), self._bound(epoch, index + 1))
        return self._inputs[:, span].t().long(), self._targets[:, span].t().long()

    def _bound(self, epoch: int, index: int) -> int:
        """The step at which a window begins."""
        bound = min(index * self.bptt_steps, self.steps)
        reach = self.bptt_steps // 4
        if not self.jitter or index == 0 or bound + reach >= self.steps:
            return bound
        return bound + random.Random(f"{self.seed} {epoch} {index}").randint(-reach, reach)
