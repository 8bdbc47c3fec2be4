"""The implementations of the loss from logits: groupgrad, a copy of the same bytes, PyTorch, and other packages."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

import eager
from groupgrad import LogitsLoss
from problem import Batch

COPY = "device copy of the same bytes"


@dataclass
class Contender:
    """`run(logits, output)` over a problem's rows gives the gradient [B, T, V], or None if there is none.

    `writes_logits`: they do not survive it. `needs_output`: it writes to an array like the logits.
    `extra_bytes`: what it holds beside logits and inputs, where that is known; else it is measured.
    `expected`: the float64 gradient at `batch`'s sampled rows. `role`: what it is in the table.
    """

    name: str
    run: Callable
    batch: Batch
    role: str = "peer"
    writes_logits: bool = False
    needs_output: bool = False
    extra_bytes: int | None = None
    expected: torch.Tensor | None = None


@dataclass
class Absent:
    """A contender that cannot run a case, and the reason."""

    name: str
    reason: str


def contenders(case, problem, library, peers):
    """The contenders of one case, ours and the copy first. `peers`: the result of `peers.find`."""
    batch = Batch(problem)
    expected = batch.expected_gradient()
    return [
        _copy(problem, batch),
        *_groupgrad(case, batch, expected, library),
        *_pytorch(case, batch, expected),
        _liger(case, problem, "Liger-Kernel", peers.liger, peers.liger_reason),
        _liger(case, problem, "Liger-Kernel on cuTile", peers.liger_cutile, peers.liger_cutile_reason),
        _fast_llm(case, batch, expected, peers),
        _quack(case, batch, peers),
    ]


def _copy(problem, batch):
    values = problem.useful_bytes // 2 // problem.source.dtype.itemsize

    def run(logits, output):
        output.view(-1)[:values].copy_(logits.view(-1)[:values])

    return Contender(COPY, run, batch, role="copy", needs_output=True, extra_bytes=0)


def groupgrad_loss(library, batch):
    """A batch's loss as an operation of groupgrad."""
    case = batch.case
    mask = batch.mask if case.masked else None
    return LogitsLoss(
        library, case.vocab, case.dtype, case.loss, batch.tokens.int(), batch.advantages, mask, batch.old_log_probs
    )


def _groupgrad(case, batch, expected, library):
    operation = groupgrad_loss(library, batch)

    def in_place(logits, _):
        rows = batch.rows(logits)
        operation(rows, rows)
        return rows

    def apart(logits, output):
        gradient = batch.rows(output)
        operation(batch.rows(logits), gradient)
        return gradient

    ours = partial(Contender, batch=batch, expected=expected)
    return [
        ours(
            "groupgrad, in place",
            in_place,
            role="groupgrad",
            writes_logits=True,
            extra_bytes=operation.extra_bytes,
        ),
        ours(
            "groupgrad, to an array of its own",
            apart,
            role="groupgrad, apart",
            needs_output=True,
            extra_bytes=operation.extra_bytes + case.bytes,
        ),
    ]


def _pytorch(case, batch, expected):
    loss_of = partial(eager.logits_loss, case.loss)
    inputs = (batch.tokens, batch.old_log_probs, batch.advantages, batch.weights)

    def differentiate(function, logits, _):
        leaf = batch.rows(logits).detach().requires_grad_()
        return torch.autograd.grad(function(leaf, *inputs), leaf)[0]

    def with_entropies(logits, *inputs):
        with torch.no_grad():
            eager.entropies(logits)
        return loss_of(logits, *inputs)

    peer = partial(Contender, batch=batch, expected=expected)
    found = [peer("PyTorch eager", partial(differentiate, loss_of))]
    if not case.loss.entropy:
        found.append(peer("PyTorch eager, entropies as a metric", partial(differentiate, with_entropies)))
    if case.compiled:
        torch.compiler.reset()
        compiled = torch.compile(loss_of, dynamic=False)
        found.append(peer("torch.compile", partial(differentiate, compiled)))
    else:
        found.append(Absent("torch.compile", "left out because it compiles for tens of seconds; part of --full"))
    return found


def _liger(case, problem, name, grpo_loss, reason):
    name = f"{name}, {case.loss.ratio} level, in place"
    if not grpo_loss:
        return Absent(name, reason)
    if case.loss.entropy:
        return Absent(name, "it has no entropy term")
    batch = Batch(problem, padded=True)
    mask = batch.mask.int() if case.masked else None
    # The divisor of each of its loss types: sequence means, or the number of tokens.
    aggregation = {"sequence-mean": "grpo", "token-mean": "dapo"}[case.loss.aggregation]

    def run(logits, _):
        leaf = batch.rows(logits).detach().requires_grad_()
        loss, _ = grpo_loss(
            leaf,
            batch.old_log_probs,
            None,
            batch.tokens,
            batch.advantages,
            completion_mask=mask,
            temperature=1.0,
            beta=0.0,
            eps_low=case.loss.low,
            eps_high=case.loss.high,
            inplace=True,
            loss_type=aggregation,
            importance_sampling_level=case.loss.ratio,
            reduce=True,
        )
        return torch.autograd.grad(loss, leaf)[0][:, : case.length]

    return Contender(name, run, batch, writes_logits=True, expected=batch.expected_gradient())


def _fast_llm(case, batch, expected, peers):
    name = "Fast-LLM, one launch, to an array of its own"
    if not peers.fast_llm:
        return Absent(name, peers.fast_llm_reason)
    for has, what in (
        (case.loss.entropy, "it has no entropy term"),
        (case.loss.ratio != "token", "its one launch has no sequence-level ratio"),
        (case.on_policy, "it needs old log-probs"),
    ):
        if has:
            return Absent(name, what)
    targets = batch.tokens.masked_fill(batch.mask == 0, -100)
    advantages = batch.advantages.unsqueeze(-1).expand_as(targets).contiguous()
    tokens = int(batch.mask.sum())

    def run(logits, _):
        # It would add to a given array, which is more work, so it allocates its own.
        _, gradient, _ = peers.fast_llm(
            batch.rows(logits),
            targets,
            advantages,
            batch.old_log_probs,
            grad_output=1.0,
            epsilon_low=case.loss.low,
            epsilon_high=case.loss.high,
            divisor=float(tokens),
        )
        return gradient

    return Contender(name, run, batch, expected=expected)


def _quack(case, batch, peers):
    name = "QuACK cross-entropy with dx, in place (another loss)"
    if not peers.quack:
        return Absent(name, peers.quack_reason)
    if case.loss.entropy or case.loss.ratio != "token" or case.on_policy:
        return Absent(name, "the same work as with a token ratio")
    targets = batch.tokens.masked_fill(batch.mask == 0, -100).flatten()
    weights = batch.mask[batch.sampled].double()

    def run(logits, _):
        rows = batch.rows(logits)
        _, gradient = peers.quack(rows.flatten(0, 1), targets, return_dx=True, inplace_backward=True)
        return gradient.view_as(rows)

    expected = batch.carry_back(-weights, torch.zeros_like(weights))
    return Contender(name, run, batch, writes_logits=True, expected=expected)
