"""The cases of the benchmark: losses, sizes, and their combinations."""

from dataclasses import dataclass
from itertools import product

import torch


@dataclass(frozen=True)
class Loss:
    """A clipped loss. The range is so wide that nothing is clipped: a clipped token would be less work."""

    ratio: str = "token"  # or "sequence" (GSPO)
    low: float = 0.2
    high: float = 0.28
    entropy: float = 0.0  # coefficient of the entropy bonus
    kl: float = 0.0  # beta of the k3 estimator

    @property
    def aggregation(self):
        return "sequence-mean" if self.ratio == "sequence" else "token-mean"


@dataclass(frozen=True)
class Advantage:
    """Group-relative advantages with HA-DW weights (arXiv 2601.08521)."""

    group_size: int = 8
    epsilon: float = 1e-4
    anchor: float = 0.4
    hadw_scale: float = 1.3


@dataclass(frozen=True)
class Case:
    """A loss from logits [sequences, rows / sequences, vocab]."""

    rows: int
    vocab: int
    dtype: torch.dtype = torch.bfloat16
    masked: float = 0.0  # share of the tokens
    loss: Loss = Loss()
    on_policy: bool = False  # the first step: no old log-probs
    compiled: bool = True  # whether torch.compile is measured; it compiles for tens of seconds
    addon: bool = False  # whether it is also measured through the Node addon: bfloat16, token ratio, no mask
    sequences: int = 8

    @property
    def length(self):
        return self.rows // self.sequences

    @property
    def bytes(self):
        return self.rows * self.vocab * self.dtype.itemsize

    @property
    def size(self):
        parts = [f"N = {self.rows}, V = {self.vocab}, {str(self.dtype).removeprefix('torch.')}"]
        parts.append("sequence ratio" if self.loss.ratio == "sequence" else "token ratio")
        if self.on_policy:
            parts.append("first step on policy")
        if self.loss.entropy:
            parts.append("entropy bonus")
        if self.masked:
            parts.append(f"{100 * self.masked:.0f} % masked out")
        return ", ".join(parts)


_LARGEST = 151936
_ENTROPY = Loss(entropy=0.01)
_SEQUENCE = Loss(ratio="sequence")

# In order of importance: if time runs out, the last are skipped.
DEFAULT = [
    Case(8192, _LARGEST, addon=True),
    Case(8192, _LARGEST, masked=0.4),
    Case(8192, _LARGEST, loss=_ENTROPY),
    Case(8192, _LARGEST, loss=_SEQUENCE),
    Case(8192, _LARGEST, on_policy=True, compiled=False),
    Case(8192, _LARGEST, loss=_SEQUENCE, on_policy=True, compiled=False),
    Case(8192, _LARGEST, torch.float32, compiled=False),
    Case(8192, 32000, compiled=False),
    Case(8192, 128256, compiled=False),
    Case(1024, _LARGEST, compiled=False),
    Case(1024, 32000, compiled=False, addon=True),
    Case(1024, 32000, torch.float32, compiled=False),
    Case(8192, _LARGEST, masked=0.4, loss=_ENTROPY, compiled=False),
]

QUICK = [
    Case(1024, _LARGEST, compiled=False, addon=True),
    Case(1024, _LARGEST, masked=0.4, compiled=False),
    Case(1024, _LARGEST, loss=_SEQUENCE, compiled=False),
]

FULL = [
    Case(rows, vocab, dtype, masked, loss, on_policy)
    for rows, vocab, dtype, masked, (loss, on_policy) in product(
        (8192, 1024),
        (_LARGEST, 128256, 32000),
        (torch.bfloat16, torch.float32),
        (0.0, 0.4),
        ((Loss(), False), (_ENTROPY, False), (_SEQUENCE, False), (Loss(), True), (_SEQUENCE, True)),
    )
]

# Sequences and tokens of the losses from rewards and log-probs.
POLICY_SHAPES = [(64, 1024), (16, 4096), (8, 128)]

# For the emulated device: the benchmark's own test.
TINY = [
    Case(16, 5000, addon=True, sequences=2),
    Case(16, 1000, torch.float32, masked=0.4, loss=_ENTROPY, compiled=False, sequences=2),
    Case(16, 1000, masked=0.4, loss=_SEQUENCE, compiled=False, sequences=2),
    Case(16, 1000, torch.float32, masked=0.4, on_policy=True, compiled=False, sequences=2),
]
TINY_POLICY_SHAPES = [(16, 40)]
