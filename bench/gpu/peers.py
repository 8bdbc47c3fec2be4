"""Other implementations, which are measured if they can be imported."""

import importlib
from dataclasses import dataclass
from typing import Any

from machine import version_of


@dataclass
class Peers:
    """Their functions, or None and the reason."""

    liger: Any = None
    liger_reason: str = ""
    liger_cutile: Any = None
    liger_cutile_reason: str = ""
    fast_llm: Any = None
    fast_llm_reason: str = ""
    quack: Any = None
    quack_reason: str = ""

    def versions(self):
        """For the description of the machine."""
        return {
            "liger_kernel": version_of("liger_kernel") if self.liger or self.liger_cutile else self.liger_reason,
            "fast_llm": version_of("fast_llm") if self.fast_llm else self.fast_llm_reason,
            "quack": version_of("quack") if self.quack else self.quack_reason,
        }


def find():
    liger = _imported("liger_kernel.transformers.grpo_loss", "triton_grpo_loss", "--liger")
    cutile, cutile_reason = _imported("liger_kernel.ops.cutile.ops.grpo_loss", "GrpoLossFunction", "--liger")
    fast_llm = _imported("fast_llm.functional.triton.grpo_loss", "triton_grpo_loss_forward_backward", "--fast-llm")
    quack = _imported("quack.cross_entropy", "cross_entropy_fwd", "--quack")
    # It can be imported without Triton or a GPU, and says itself whether it works.
    if fast_llm[0] and not importlib.import_module("fast_llm.functional.triton").triton_available:
        fast_llm = (None, "absent: fast_llm finds no GPU with Triton")
    return Peers(*liger, cutile and _as_triton(cutile), cutile_reason, *fast_llm, *quack)


def _as_triton(function):
    """Liger-Kernel's autograd function of another backend with the arguments of `triton_grpo_loss`, which calls the
    one of the backend that was chosen for the whole process."""

    def grpo_loss(
        logits,
        old_log_probs,
        ref_log_probs,
        tokens,
        advantages,
        *,
        completion_mask,
        temperature,
        beta,
        eps_low,
        eps_high,
        inplace,
        loss_type,
        importance_sampling_level,
        reduce,
    ):
        batch = (logits, old_log_probs, ref_log_probs, tokens, advantages, completion_mask)
        config = (temperature, beta, eps_low, eps_high, inplace, loss_type, None, reduce, importance_sampling_level)
        loss, *metrics = function.apply(*batch, *config)
        return loss, metrics

    return grpo_loss


def _imported(module, function, option):
    package = module.partition(".")[0]
    try:
        return getattr(importlib.import_module(module), function), ""
    except ModuleNotFoundError as problem:
        if problem.name == package:
            return None, f"absent: {package} is not installed and {option} was not given"
        # CUTLASS's package is imported by another name than it is installed by.
        needs = "nvidia-cutlass-dsl" if problem.name and problem.name.startswith("cutlass") else problem.name
        return None, f"absent: {package} needs {needs}"
    except Exception as problem:  # a package may raise anything on an unsupported machine
        return None, f"absent: {type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
