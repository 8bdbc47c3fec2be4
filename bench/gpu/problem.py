"""The tensors of one case, and the float64 gradient on sampled rows that every contender is compared with."""

import torch

import eager

# Rows whose gradients are compared, spread evenly.
SAMPLED_ROWS = 32
# Logits evaluated in float64 at once.
_FLOAT64_VALUES = 1 << 25


def relative_error(got, expected):
    """Norm of the difference from a float64 result, relative to the norm of that result unless it is 0."""
    difference, size = (torch.linalg.norm(t).item() for t in (got.double() - expected, expected))
    return difference / size if size > 0 else difference


def tail_mask(sequences, length, masked, device):
    """uint8 [sequences, length]: completions of different lengths that mask a share `masked` of the tokens (below one half)."""
    lengths = torch.linspace(1 - 2 * masked, 1, sequences, dtype=torch.float64).mul(length).round()
    return (torch.arange(length) < lengths.unsqueeze(-1)).to(torch.uint8).to(device)


class Batch:
    """One way to divide a problem's rows into B sequences of T tokens.

    `padded`: sequences have T + 1 rows, the last of which no token belongs to, as a model's output has it; else T.
    """

    def __init__(self, problem, padded=False):
        case = problem.case
        self.case = case
        self.padded = padded
        places = torch.arange(case.sequences * (case.length + padded), device=problem.source.device)
        self.places = places.view(case.sequences, -1)[:, : case.length]  # of each token's row in the problem
        self.tokens = problem.tokens[self.places]
        self.mask = problem.mask
        self.weights = problem.mask.float()
        self.advantages = problem.advantages
        self.log_probs = problem.log_probs[self.places]
        self.entropies = problem.entropies[self.places]
        self.old_log_probs = None
        if not case.on_policy:
            self.old_log_probs = (self.log_probs + problem.drift[self.places]).float().contiguous()
        sampled = torch.linspace(0, case.rows - 1, min(SAMPLED_ROWS, case.rows)).long().to(places.device)
        self.sampled = (sampled // case.length, sampled % case.length)
        self.sampled_logits = problem.source[self.places[self.sampled]].double()

    def rows(self, logits):
        """Logits [B, T, V], or [B, T + 1, V] if padded, in a problem's rows."""
        count = self.case.sequences * (self.case.length + self.padded)
        return logits[:count].view(self.case.sequences, -1, self.case.vocab)

    def loss(self, log_probs, entropies):
        """The case's loss from float64 log-probs and entropies."""
        mask, advantages = self.mask.double(), self.advantages.double()
        old = None if self.old_log_probs is None else self.old_log_probs.double()
        return eager.policy_loss(self.case.loss, log_probs, old, advantages, mask, entropy=entropies)

    def expected_gradient(self):
        """The gradient of the case's loss in float64 at the sampled rows."""
        log_probs, entropies = (t.detach().requires_grad_() for t in (self.log_probs, self.entropies))
        flows = torch.autograd.grad(
            self.loss(log_probs, entropies), (log_probs, entropies), allow_unused=True, materialize_grads=True
        )
        return self.carry_back(*(flow[self.sampled] for flow in flows))

    def carry_back(self, log_prob_gradient, entropy_gradient):
        """Gradients with respect to the sampled rows' log-probs and entropies, propagated to their logits."""
        logits = self.sampled_logits.unsqueeze(0).requires_grad_()
        tokens = self.tokens[self.sampled].unsqueeze(0)
        outputs = (eager.token_log_probs(logits, tokens), eager.entropies(logits))
        flows = (log_prob_gradient.unsqueeze(0), entropy_gradient.unsqueeze(0))
        return torch.autograd.grad(outputs, logits, flows)[0].squeeze(0)

    def error(self, gradient, expected):
        """The error of a gradient [B, T, V] at the sampled rows."""
        return relative_error(gradient[self.sampled], expected)

    def tolerance(self, dtype=None):
        """The largest error of a result in `dtype` (default: the logits' own) that rounding explains.

        float32, in units of its rounding error u: log-prob and normalizer carry about |l| u each into the ratio and
        into the probabilities, twice; exponentials, products and a sum's depth add less than 64 u. A narrower result
        is rounded once more.
        """
        dtype = dtype or self.case.dtype
        u = torch.finfo(torch.float32).eps / 2
        arithmetic = u * (4 * self.log_probs.abs().max().item() + 64)
        rounding = torch.finfo(dtype).eps / 2 if dtype != torch.float32 else 0
        return arithmetic + rounding


class Problem:
    """A case's values: logits like those of a small model, tokens, masked tails, log-probs of a policy a
    few updates old. `source` [B * (T + 1), V] is not modified."""

    def __init__(self, case, device, seed=0):
        generator = torch.Generator(device).manual_seed(seed)
        rows = case.sequences * (case.length + 1)
        on_device = {"device": device, "generator": generator}
        self.case = case
        self.source = torch.randn(rows, case.vocab, dtype=case.dtype, **on_device).mul_(2)
        self.tokens = torch.randint(case.vocab, (rows,), **on_device)
        self.drift = torch.rand(rows, **on_device).mul_(0.2).sub_(0.1)
        self.advantages = torch.randn(case.sequences, **on_device)
        self.mask = tail_mask(case.sequences, case.length, case.masked, device)
        self.log_probs = torch.empty(rows, dtype=torch.float64, device=device)
        self.entropies = torch.empty_like(self.log_probs)
        step = max(1, _FLOAT64_VALUES // case.vocab)
        for begin in range(0, rows, step):
            part = slice(begin, begin + step)
            logits = self.source[part].double().unsqueeze(0)
            self.log_probs[part] = eager.token_log_probs(logits, self.tokens[part].unsqueeze(0)).squeeze(0)
            self.entropies[part] = eager.entropies(logits).squeeze(0)

    @property
    def useful_bytes(self):
        """One read and one write of the logits of the tokens that count."""
        return 2 * int(self.mask.sum()) * self.case.vocab * self.case.dtype.itemsize
