"""The loss from rewards and log-probs in one call (K1 + K2): measured with device events around calls, and around
replays of a CUDA graph, without the host."""

import torch

import eager
from cases import Advantage, Loss
from groupgrad import PolicyLoss
from problem import tail_mask

OPERATION = "rewards and log-probs to loss and gradient (K1 + K2)"
ADVANTAGE = Advantage()
LOSS = Loss(kl=0.04)
# Calls in one CUDA graph, so that the cost of its launch is spread.
CALLS_IN_GRAPH = 20


def by_calls(sequences, length):
    """Heading of results measured around calls."""
    return f"B = {sequences}, T = {length}, calls"


def by_graph(sequences, length):
    """Heading of results measured around replays of a CUDA graph."""
    return f"B = {sequences}, T = {length}, in a CUDA graph"


class PolicyInputs:
    """B sequences of T tokens: rewards of 0 and 1, log-probs of a policy a few updates old and of a reference policy,
    40 % of the tokens masked."""

    def __init__(self, sequences, length, device, loss=LOSS, seed=0):
        generator = torch.Generator(device).manual_seed(seed)

        def uniform(low, high, *shape):
            return torch.rand(*shape, device=device, generator=generator) * (high - low) + low

        shape = (sequences, length)
        self.loss = loss
        self.log_probs = uniform(-3, -0.1, *shape)
        self.old_log_probs = self.log_probs + uniform(-0.1, 0.1, *shape)
        self.ref_log_probs = self.log_probs + uniform(-0.3, 0.3, *shape)
        self.rewards = (uniform(0, 1, sequences) < 0.5).float()
        self.mask = tail_mask(sequences, length, 0.4, device)

    @property
    def bytes(self):
        """The bytes if everything is read once, and the gradient written once."""
        floats = (self.log_probs, self.old_log_probs, self.ref_log_probs, self.log_probs, self.rewards)
        return self.mask.numel() + 4 * sum(t.numel() for t in floats)

    def differentiate(self, dtype, compile=lambda function: function):
        """A function that computes the loss and its gradient [B, T] by PyTorch's operations; `compile` may compile them."""
        leaf = self.log_probs.to(dtype, copy=True).requires_grad_()
        old, ref, rewards, mask = (
            t.to(dtype) for t in (self.old_log_probs, self.ref_log_probs, self.rewards, self.mask)
        )

        @compile
        def loss_of(leaf, old, ref, rewards, mask):
            advantages = eager.hadw_advantages(rewards, ADVANTAGE)
            return eager.policy_loss(self.loss, leaf, old, advantages, mask, ref_log_probs=ref)

        def run():
            loss = loss_of(leaf, old, ref, rewards, mask)
            return loss.detach(), torch.autograd.grad(loss, leaf)[0]

        return run

    def groupgrad_loss(self, library):
        """The same as one operation of groupgrad."""
        return PolicyLoss(
            library,
            self.loss,
            ADVANTAGE,
            self.log_probs,
            self.old_log_probs,
            self.ref_log_probs,
            self.rewards,
            self.mask,
        )


def tolerance():
    """The largest error that rounding explains: exponentials of numbers below 1, a few dozen products and sums."""
    return 64 * torch.finfo(torch.float32).eps / 2
