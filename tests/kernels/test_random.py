"""Random masks beside Philox as the paper has it, on every processor's code."""

import numpy as np
import pytest
import torch

from recurra.errors import ArgumentError
from recurra.kernels.cpu import random
from recurra.kernels.cpu.host import LEVELS, Host, find_host
from recurra.kernels.cpu.random import random_mask


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox4x32-10, Salmon et al. 2011, in whole numbers of 64 bits."""
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in counter)
    (k0, k1), low = key, np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        upper_a, upper_b = a >> np.uint64(32), b >> np.uint64(32)
        c0, c1 = upper_b ^ c1 ^ np.uint64(k0), b & low
        c2, c3 = upper_a ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def hosts() -> list[Host]:
    found = []
    for level in LEVELS:
        try:
            found.append(find_host(level))
        except ArgumentError:
            continue
    return found


def expected(count: int, ones: int, value: float, seed: int) -> torch.Tensor:
    counters = np.arange(-(-count // 128) * 16, dtype=np.uint64)
    zeros = np.zeros_like(counters)
    words = philox([counters, zeros, zeros, zeros], (seed & 0xFFFFFFFF, seed >> 32))
    draws = [w & np.uint64(0xFFFF) for w in words] + [w >> np.uint64(16) for w in words]
    numbers = np.stack(draws).reshape(8, -1, 16).transpose(1, 0, 2).reshape(-1)[:count]
    return torch.from_numpy((numbers < ones).astype(np.float32)) * value


def test_the_comparison_draws_the_published_numbers() -> None:
    """The known answers that come with the authors' Random123."""
    for counter, key, answer in (
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        assert [int(w) for w in philox([np.uint64(c) for c in counter], key)] == answer


@pytest.mark.parametrize("host", hosts(), ids=lambda host: host.level)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (127,), (3, 128), (29, 31), (7, 11, 13)])
def test_masks_are_those_of_philox(host: Host, shape: tuple[int, ...]) -> None:
    for seed, ones in ((0, 0), (7, 1), (2**64 - 3, 20_000), (3 << 40, 65_535), (1, 65_536)):
        got = random_mask(shape, ones, 1.25, seed, host)
        assert got.shape == shape
        assert torch.equal(got.view(-1), expected(got.numel(), ones, 1.25, seed))


def test_threads_draw_what_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "LEAST_SHARED", 1)
    for count in (1, 129, 5_000):
        assert torch.equal(random_mask((count,), 30_000, 1.0, 9), expected(count, 30_000, 1.0, 9))


def test_counters_go_on_beyond_the_first_group() -> None:
    mask = random_mask((64, 1000), 32_768, 1.0, 11)
    groups = mask.view(-1)[: 64_000 // 128 * 128].view(-1, 128)
    assert len(torch.unique(groups, dim=0)) == len(groups)
