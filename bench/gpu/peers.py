"""The peers that are measured where they can be imported."""

import importlib
from dataclasses import dataclass
from typing import Any

from machine import version_of


@dataclass
class Peers:
    """Their functions, or None and why."""

    liger: Any = None
    liger_reason: str = ""
    quack: Any = None
    quack_reason: str = ""

    def versions(self):
        """For the record of the machine."""
        return {
            "liger_kernel": version_of("liger_kernel") if self.liger else self.liger_reason,
            "quack": version_of("quack") if self.quack else self.quack_reason,
        }


def find():
    liger, liger_reason = _imported("liger_kernel.transformers.grpo_loss", "triton_grpo_loss", "--liger")
    quack, quack_reason = _imported("quack.cross_entropy", "cross_entropy_fwd", "--quack")
    return Peers(liger, liger_reason, quack, quack_reason)


def _imported(module, function, option):
    package = module.partition(".")[0]
    try:
        return getattr(importlib.import_module(module), function), ""
    except ModuleNotFoundError as problem:
        if problem.name == package:
            return None, f"absent: {package} is not installed and {option} was not given"
        return None, f"absent: {package} needs {problem.name}"
    except Exception as problem:  # whatever a package raises on a machine that it does not suit
        return None, f"absent: {type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
