"""Measures groupgrad's CUDA operations and other implementations on this machine's GPU: prints tables, writes JSON.

Usually started by run.sh, which builds the library first.
"""

import argparse
import datetime
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

import cases
import peers
import timing
from addon import through_addon
from groupgrad import Library
from machine import machine, nvidia_smi
from measure import LOGITS, Results, measure_logits, measure_policy
from table import complete, markdown

RESULTS = Path(__file__).resolve().parents[1] / "results"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True, help="path of libgroupgrad.so")
    parser.add_argument("--out", type=Path, help="default: bench/results/gpu-<its name>.json")
    parser.add_argument("--addon", action="store_true", help="measure through the Node addon too; needs node and dist/")
    parser.add_argument("--seconds", type=float, default=330, help="no case is started later than this (default 330)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="three cases at N = 1024")
    which.add_argument("--full", action="store_true", help="every combination; takes an hour, and has no time limit")
    which.add_argument("--emulated", action="store_true", help="tiny cases on an emulated library; no measurement")
    return parser.parse_args()


def plan(options):
    """Cases, shapes of the policy loss, samples."""
    if options.emulated:
        chosen, shapes, samples = cases.TINY, cases.TINY_POLICY_SHAPES, 2
    elif options.quick:
        chosen, shapes, samples = cases.QUICK, cases.POLICY_SHAPES[:1], timing.SAMPLES // 2
    else:
        chosen, shapes, samples = cases.FULL if options.full else cases.DEFAULT, cases.POLICY_SHAPES, timing.SAMPLES
    if options.no_compile:
        chosen = [replace(case, compiled=False) for case in chosen]
    return chosen, shapes, samples


def main():
    options = arguments()
    if not options.emulated and not torch.cuda.is_available():
        sys.exit("bench.py: PyTorch sees no GPU")
    device = timing.Host() if options.emulated else timing.Gpu()
    library = Library(options.library, device.stream)
    found = peers.find()
    where = machine(library, found)
    name = re.sub(r"[^a-z0-9]+", "-", where.get("gpu", "emulated").lower())
    out = options.out or RESULTS / f"gpu-{name}.json"
    results = Results()

    def write():
        complete(results.rows)
        out.parent.mkdir(parents=True, exist_ok=True)
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        record = {"date": date, "machine": where, "rows": results.rows, "skipped": results.skipped}
        out.write_text(json.dumps(record, indent=1) + "\n")

    logits_cases, policy_shapes, samples = plan(options)
    begin = time.monotonic()
    if options.addon:
        through_addon(device, logits_cases, policy_shapes[0], samples, results)
    for index, (sequences, length) in enumerate(policy_shapes):
        compiled = index == 0 and not (options.quick or options.no_compile)
        measure_policy(device, sequences, length, library, compiled, samples, results)
        write()
    for case in logits_cases:
        if time.monotonic() - begin > options.seconds and not options.full:
            results.skip(LOGITS, case.size, "all", f"not started within {options.seconds:.0f} s")
            continue
        measure_logits(device, case, library, found, samples, results)
        write()
    if not options.emulated:
        where["after"] = nvidia_smi()
    write()
    print(markdown(results.rows, results.skipped))
    print(f"\nWritten to {out}")
    for line in results.wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    sys.exit(1 if results.wrong else 0)


if __name__ == "__main__":
    main()
