"""The token-level clipped loss from logits in PyTorch eager on the CPU, as TRL writes it: forward and backward.

Usage: torch_eager.py N V THREADS. Prints one JSON object: milliseconds of each sample and the PyTorch version.
"""

import json
import sys
import time

import torch

rows, vocab, threads = (int(argument) for argument in sys.argv[1:4])
torch.set_num_threads(threads)
torch.manual_seed(0)
sequences = 8
length = rows // sequences
logits = (torch.rand(sequences, length, vocab) * 16 - 8).requires_grad_()
tokens = torch.randint(vocab, (sequences, length))
advantages = torch.randn(sequences, 1)
mask = torch.ones(sequences, length)


def token_log_probs():
    # One sequence at a time: the largest temporary is then one sequence's logits, as in TRL's selective_log_softmax.
    parts = []
    for row_logits, row_tokens in zip(logits, tokens):
        log_probs = torch.log_softmax(row_logits, dim=-1)
        parts.append(log_probs.gather(-1, row_tokens.unsqueeze(-1)).squeeze(-1))
    return torch.stack(parts)


with torch.no_grad():
    old = token_log_probs() + 0.2 * (torch.rand(sequences, length) * 2 - 1)


def step():
    logits.grad = None
    ratio = torch.exp(token_log_probs() - old)
    clipped = torch.clamp(ratio, 0.8, 1.28)
    loss = -torch.min(ratio * advantages, clipped * advantages)
    ((loss * mask).sum() / mask.sum()).backward()


step()
samples = []
begin = time.perf_counter()
while len(samples) < 5 or time.perf_counter() - begin < 2:
    start = time.perf_counter()
    step()
    samples.append((time.perf_counter() - start) * 1e3)
print(json.dumps({"version": torch.__version__, "samples": samples}))
