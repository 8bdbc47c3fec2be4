"""The losses in PyTorch operations, in the order of TRL's GRPO trainer. In float64 they are the
reference."""

import torch


def token_log_probs(logits, tokens):
    """Log-probs [B, T] of the tokens [B, T] under logits [B, T, V], one sequence at a time: fewer temporaries."""
    index = tokens.unsqueeze(-1)
    if logits.dtype in (torch.float32, torch.float64):
        normalizers = torch.stack([sequence.logsumexp(-1) for sequence in logits])
        return logits.gather(-1, index).squeeze(-1) - normalizers
    # Below float32 a difference of two rounded numbers is too coarse.
    chosen = [torch.log_softmax(row, -1).gather(-1, ids) for row, ids in zip(logits, index, strict=True)]
    return torch.stack(chosen).squeeze(-1)


def entropies(logits, rows=128):
    """Entropies [B, T] in nats, `rows` rows at a time."""
    parts = []
    for chunk in logits.flatten(0, -2).split(rows):
        log_probs = torch.log_softmax(chunk, -1)
        parts.append(-(log_probs.exp() * log_probs).sum(-1))
    return torch.cat(parts).reshape(logits.shape[:-1])


def hadw_advantages(rewards, advantage):
    """Advantages of rewards in groups of equal size, reweighted by HA-DW (arXiv 2601.08521, eq. 13-17)."""
    groups = rewards.view(-1, advantage.group_size)
    mean = groups.mean(1, keepdim=True)
    plain = (groups - mean) / (groups.std(1, keepdim=True) + advantage.epsilon)
    weights = advantage.hadw_scale * torch.exp(-torch.sign(plain) * (mean - advantage.anchor))
    return (plain * weights).flatten()


def policy_loss(loss, log_probs, old_log_probs, advantages, mask, ref_log_probs=None, entropy=None):
    """The clipped loss. log_probs, mask, entropy: [B, T]; advantages: [B]. Without old log-probs it is the first,
    on-policy step."""
    old = log_probs.detach() if old_log_probs is None else old_log_probs
    lengths = mask.sum(-1, keepdim=True).clamp(min=1.0)
    log_ratio = log_probs - old
    if loss.ratio == "sequence":
        log_ratio = (log_ratio * mask).sum(-1, keepdim=True) / lengths
    ratio = log_ratio.exp()
    gain = advantages.unsqueeze(-1)
    per_token = -torch.min(ratio * gain, ratio.clamp(1 - loss.low, 1 + loss.high) * gain)
    if loss.kl:
        difference = ref_log_probs - log_probs
        per_token = per_token + loss.kl * (difference.exp() - difference - 1)
    tokens = mask.sum().clamp(min=1.0)
    if loss.aggregation == "sequence-mean":
        total = ((per_token * mask).sum(-1, keepdim=True) / lengths).mean()
    else:
        total = (per_token * mask).sum() / tokens
    if loss.entropy:
        total = total - loss.entropy * (entropy * mask).sum() / tokens
    return total


def logits_loss(loss, logits, tokens, old_log_probs, advantages, mask):
    """The clipped loss from logits [B, T, V]."""
    entropy = entropies(logits) if loss.entropy else None
    return policy_loss(loss, token_log_probs(logits, tokens), old_log_probs, advantages, mask, entropy=entropy)
