"""The same operations through the Node addon: starts device-arrays.mjs, before anything else uses the GPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

import policy
from measure import LOGITS

PROGRAM = Path(__file__).with_name("device-arrays.mjs")
_TIMEOUT = 300


def through_addon(machine, cases, policy_shape, samples, results):
    """Adds rows for the cases marked for it, and for one shape of the policy loss."""
    sequences, length = policy_shape
    loss, advantage = policy.LOSS, policy.ADVANTAGE
    plan = {
        "samples": samples,
        "seconds": machine.least_seconds,
        "logits": [_logits(case) for case in cases if case.addon],
        "policy": [
            {
                "row": {"operation": policy.OPERATION, "size": policy.by_calls(sequences, length)},
                "sequences": sequences,
                "length": length,
                "low": loss.low,
                "high": loss.high,
                "kl": loss.kl,
                "groupSize": advantage.group_size,
                "epsilon": advantage.epsilon,
                "anchor": advantage.anchor,
                "hadwScale": advantage.hadw_scale,
            }
        ],
    }
    print("through the addon", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            ["node", PROGRAM], input=json.dumps(plan), capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
        found = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        said = re.search(r"^\w*Error.*", error.stderr, re.MULTILINE)
        results.fail("all", "all", "groupgrad through the addon", RuntimeError(said.group() if said else error.stderr))
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        results.fail("all", "all", "groupgrad through the addon", error)
    else:
        results.rows += found["rows"]
        results.skipped += found["skipped"]


def _logits(case):
    useful = 2 * case.bytes  # nothing is masked
    return {
        "row": {"operation": LOGITS, "size": case.size, "usefulBytes": useful},
        "sequences": case.sequences,
        "length": case.length,
        "vocab": case.vocab,
        "low": case.loss.low,
        "high": case.loss.high,
    }
