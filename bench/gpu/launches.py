"""A few launches of the loss from logits (K3) and of the loss from rewards and log-probs (K1 + K2), for a profiler:

    ncu --set full -k 'regex:clusterRows|policyKernel|tokenLocal' python bench/gpu/launches.py --library libgroupgrad.so

A case of the loss from logits is three launches: per-sequence values, the rows, and the sums.
"""

import argparse

import torch

import timing
from cases import Case
from contenders import groupgrad_loss
from groupgrad import Library
from policy import PolicyInputs
from problem import Batch, Problem

CASES = (Case(2048, 151936), Case(2048, 151936, torch.float32))
POLICY_SHAPE = (64, 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="path of libgroupgrad.so")
    parser.add_argument("--emulated", action="store_true", help="tiny cases on an emulated library")
    options = parser.parse_args()
    machine = timing.Host() if options.emulated else timing.Gpu()
    library = Library(options.library, machine.stream)
    cases = [Case(4, 5000, case.dtype, sequences=2) for case in CASES] if options.emulated else CASES
    for case in cases:
        problem = Problem(case, machine.device)
        batch = Batch(problem)
        logits = batch.rows(problem.source)
        groupgrad_loss(library, batch)(logits, torch.empty_like(logits))
        machine.synchronize()
    shape = (16, 40) if options.emulated else POLICY_SHAPE
    PolicyInputs(*shape, machine.device).groupgrad_loss(library)()
    machine.synchronize()


if __name__ == "__main__":
    main()
