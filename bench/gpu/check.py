"""Checks libgroupgrad on PyTorch's tensors against float64, at small sizes of every kind: gradients,
losses, zeros where tokens are masked, deterministic bits. Exit status 1 if a check fails."""

import argparse
import math
import sys
from itertools import product

import torch

import timing
from cases import Case, Loss
from contenders import groupgrad_loss
from groupgrad import Library
from policy import PolicyInputs, tolerance
from problem import Batch, Problem, relative_error

# A row per warp, rows of blocks and clusters, and an odd length, which moves every second row off its alignment.
VOCABULARIES = (7, 1000, 5000, 33001)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# A narrow range: about half of the tokens are clipped.
LOSSES = (Loss(low=0.05, high=0.05), Loss(entropy=0.05), Loss(ratio="sequence", low=0.01, high=0.02))
# Whether it is the first, on-policy step, and the share of masked tokens.
STEPS = ((False, 0.0), (False, 0.4), (True, 0.4))
# Sequences of a warp, of a block, and of several units.
POLICY_SHAPES = ((8, 7), (16, 130), (8, 2500))


class Report:
    def __init__(self):
        self.checks = 0
        self.wrong = []
        self.worst = (0.0, "")

    def within(self, what, error, bound):
        self.checks += 1
        if not error <= bound:
            self.wrong.append(f"{what}: error {error:.2e}, at most {bound:.2e} is rounding")
        elif bound > 0:
            self.worst = max(self.worst, (error / bound, what))

    def holds(self, what, condition):
        self.checks += 1
        if not condition:
            self.wrong.append(what)


def check_logits(report, case, library, machine):
    problem = Problem(case, machine.device)
    batch = Batch(problem)
    expected = batch.expected_gradient()
    operation = groupgrad_loss(library, batch)
    logits = batch.rows(problem.source)
    # Poisoned: unwritten values stay NaN.
    gradient = torch.full_like(logits, math.nan)
    operation(logits, gradient)
    report.within(f"gradient, {case.size}", batch.error(gradient, expected), batch.tolerance())
    metrics = operation.read_metrics()
    loss = batch.loss(batch.log_probs, batch.entropies).item()
    # A mean of terms of the size of the advantages (and entropies), each as accurate as a gradient in float32.
    size = batch.advantages.abs().max().item() + case.loss.entropy * batch.entropies.abs().max().item()
    float32 = batch.tolerance(torch.float32)
    report.within(f"loss, {case.size}", abs(metrics["loss"] - loss), float32 * size)
    report.holds(f"count of tokens, {case.size}", metrics["tokens"] == int(batch.mask.sum()))
    report.holds(f"no value that is not finite, {case.size}", metrics["non_finite"] == 0)
    report.holds(f"zeros at masked tokens, {case.size}", bool((gradient[batch.mask == 0] == 0).all()))
    in_mask = batch.mask.bool()
    for name, got, want in (
        ("log-probs", operation.log_probs, batch.log_probs),
        ("entropies", operation.entropies, batch.entropies),
    ):
        distance = (got[in_mask].double() - want[in_mask]).abs().max().item()
        report.within(f"{name}, {case.size}", distance, float32 * max(1.0, batch.log_probs.abs().max().item()))
    in_place = logits.clone()
    operation(in_place, in_place)
    bits = torch.int32 if case.dtype == torch.float32 else torch.int16
    report.holds(f"in place the same bits, {case.size}", torch.equal(in_place.view(bits), gradient.view(bits)))
    if case.vocab == VOCABULARIES[-1]:
        replayed = torch.full_like(logits, math.nan)
        machine.capture(lambda: operation(logits, replayed), 2)()
        report.holds(f"in a graph the same bits, {case.size}", torch.equal(replayed.view(bits), gradient.view(bits)))


def check_policy(report, sequences, length, loss, library, device):
    what = f"B = {sequences}, T = {length}, {loss.ratio} ratio"
    inputs = PolicyInputs(sequences, length, device, loss)
    expected_loss, expected = inputs.differentiate(torch.float64)()
    operation = inputs.groupgrad_loss(library)
    operation.gradient.fill_(math.nan)
    operation()
    first = operation.gradient.clone()
    metrics = operation.read_metrics()
    report.within(f"gradient, {what}", relative_error(first, expected), tolerance())
    report.within(f"loss, {what}", abs(metrics["loss"] - expected_loss.item()), tolerance() * 4)
    report.holds(f"zeros at masked tokens, {what}", bool((first[inputs.mask == 0] == 0).all()))
    operation.gradient.fill_(math.nan)
    operation()
    same = torch.equal(first.view(torch.int32), operation.gradient.view(torch.int32))
    report.holds(f"the same bits twice, {what}", same)
    report.holds(f"the same metrics twice, {what}", operation.read_metrics() == metrics)
    # Any nonzero byte is in the mask, and a mask may start at any offset.
    odd = torch.empty(inputs.mask.numel() + 3, dtype=torch.uint8, device=inputs.mask.device)[3:]
    marks = torch.tensor([1, 2, 127, 128, 255], dtype=torch.uint8, device=odd.device).repeat(odd.numel() // 5 + 1)
    odd.copy_(inputs.mask.flatten() * marks[: odd.numel()])
    inputs.mask = odd.view_as(inputs.mask)
    operation = inputs.groupgrad_loss(library)
    operation()
    same = torch.equal(first.view(torch.int32), operation.gradient.view(torch.int32))
    report.holds(f"the same bits with another mask of the same tokens, {what}", same)
    report.holds(f"the same metrics with it, {what}", operation.read_metrics() == metrics)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True, help="path of libgroupgrad.so")
    parser.add_argument("--emulated", action="store_true", help="a library built with GROUPGRAD_CUDA=EMULATED")
    options = parser.parse_args()
    machine = timing.Host() if options.emulated else timing.Gpu()
    library = Library(options.library, machine.stream)
    report = Report()
    for vocab, dtype, loss, (on_policy, masked) in product(VOCABULARIES, DTYPES, LOSSES, STEPS):
        check_logits(report, Case(12, vocab, dtype, masked, loss, on_policy, sequences=3), library, machine)
    for (sequences, length), ratio in product(POLICY_SHAPES, ("token", "sequence")):
        check_policy(report, sequences, length, Loss(ratio, kl=0.04), library, machine.device)
    share, what = report.worst
    print(f"{report.checks} checks; the largest error is {share:.0%} of its bound: {what}")
    for line in report.wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
