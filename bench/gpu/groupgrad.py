"""libgroupgrad from Python: the structs and constants of native/c/groupgrad.h, read from the header, and its
operations on PyTorch's tensors."""

import ctypes
import re
from pathlib import Path

import torch

HEADER = Path(__file__).resolve().parents[2] / "native" / "c" / "groupgrad.h"

_C_TYPES = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "double": ctypes.c_double}
_DTYPES = {torch.float32: "FLOAT32", torch.bfloat16: "BFLOAT16", torch.float16: "FLOAT16"}


def declarations(text):
    """A header's constants {name: value} and structs {name: ctypes.Structure}."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    constants = {}
    for body in re.findall(r"\benum \w+ \{(.*?)\}", text, re.DOTALL):
        value = 0
        for entry in filter(None, (part.strip() for part in body.split(","))):
            name, _, explicit = entry.partition(" = ")
            value = int(explicit) if explicit else value
            constants[name] = value
            value += 1
    structs = {}
    for body, name in re.findall(r"\btypedef struct \w+ \{([^{}]*)\} (\w+);", text):
        fields = []
        for declaration in filter(None, (" ".join(part.split()) for part in body.split(";"))):
            found = re.fullmatch(r"(?:const )?(\w+)(\*?) (.+)", declaration)
            if not found:
                raise ValueError(f"cannot read the declaration '{declaration}' of {name}")
            kind, pointer, names = found.groups()
            base = ctypes.c_void_p if pointer else _C_TYPES.get(kind) or structs[kind]
            for field in names.split(", "):
                field, _, count = field.rstrip("]").partition("[")
                fields.append((field, base * int(count) if count else base))
        # Without a __dict__, an instance rejects misspelt fields.
        structs[name] = type(name, (ctypes.Structure,), {"__slots__": (), "_fields_": fields})
    return constants, structs


CONSTANTS, STRUCTS = declarations(HEADER.read_text())


class GroupgradError(RuntimeError):
    """An error reported by libgroupgrad."""


class Library:
    """A loaded libgroupgrad. `stream`: returns the CUDA stream for operations, as an integer."""

    def __init__(self, path, stream):
        self.path = str(path)
        self.stream = stream
        self.c = ctypes.CDLL(self.path)
        self.c.groupgrad_version.restype = ctypes.c_char_p
        self.c.groupgrad_error.restype = ctypes.c_char_p
        for name in ("advantages", "policy", "logits"):
            getattr(self.c, f"groupgrad_{name}_workspace").restype = ctypes.c_size_t

    @property
    def version(self):
        return self.c.groupgrad_version().decode()

    def request(self, name):
        """A request of groupgrad.h with its defaults; `name` is advantage, policy or logits."""
        request = STRUCTS[f"groupgrad_{name}_request"]()
        getattr(self.c, f"groupgrad_{name}_request_init")(ctypes.byref(request))
        return request

    def error(self):
        return GroupgradError(self.c.groupgrad_error().decode())


def _pointer(tensor, dtype, count):
    """The address of a tensor's values, or None without a tensor."""
    if tensor is None:
        return None
    if tensor.dtype != dtype or tensor.numel() != count or not tensor.is_contiguous():
        raise ValueError(f"expected {count} contiguous values of {dtype}, got {tuple(tensor.shape)} of {tensor.dtype}")
    return tensor.data_ptr()


def _set_config(config, loss):
    config.ratio = CONSTANTS["GROUPGRAD_RATIO_SEQUENCE" if loss.ratio == "sequence" else "GROUPGRAD_RATIO_TOKEN"]
    config.surrogate = CONSTANTS["GROUPGRAD_CLIP"]
    config.surrogate_parameters[:] = (loss.low, loss.high, float("inf"), float("inf"))
    sequence_mean = loss.aggregation == "sequence-mean"
    config.aggregation = CONSTANTS["GROUPGRAD_SEQUENCE_MEAN" if sequence_mean else "GROUPGRAD_TOKEN_MEAN"]
    config.kl_beta = loss.kl
    config.entropy_coefficient = loss.entropy


class _Scratch:
    """The workspace of an operation and the numbers that it writes on the device."""

    def __init__(self, workspace_bytes, device):
        self.metrics = torch.zeros(ctypes.sizeof(STRUCTS["groupgrad_loss_metrics"]), dtype=torch.uint8, device=device)
        self.advantage_metrics = torch.zeros(
            ctypes.sizeof(STRUCTS["groupgrad_advantage_metrics"]), dtype=torch.uint8, device=device
        )
        self.workspace = torch.zeros(workspace_bytes, dtype=torch.uint8, device=device)

    @property
    def bytes(self):
        return sum(t.numel() for t in (self.metrics, self.advantage_metrics, self.workspace))

    def arguments(self):
        return [
            ctypes.c_void_p(self.metrics.data_ptr()),
            ctypes.c_void_p(self.advantage_metrics.data_ptr()),
            ctypes.c_void_p(self.workspace.data_ptr()),
            ctypes.c_size_t(self.workspace.numel()),
        ]

    def read_metrics(self):
        """The loss and its metrics by name. Waits."""
        read = STRUCTS["groupgrad_loss_metrics"].from_buffer_copy(bytes(self.metrics.tolist()))
        return {name: getattr(read, name) for name, _ in read._fields_}


class LogitsLoss:
    """groupgrad_logits_loss over B sequences of T tokens and a vocabulary of V, with everything except the logits given once.

    tokens: int32 [B, T]. advantages: float32 [B]. mask: uint8 [B, T] or None. old_log_probs: float32 [B, T] or None
    (the first step on policy). loss: a Loss. dtype: of the logits.
    """

    def __init__(self, library, vocab, dtype, loss, tokens, advantages, mask, old_log_probs):
        self._library = library
        sequences, length = tokens.shape
        count = sequences * length
        self.log_probs = torch.empty(sequences, length, dtype=torch.float32, device=tokens.device)
        self.entropies = torch.empty_like(self.log_probs)
        self._inputs = (tokens, advantages, mask, old_log_probs)  # kept alive
        request = self._request = library.request("logits")
        request.policy.sequences = sequences
        request.policy.length = length
        request.policy.old_log_probs = _pointer(old_log_probs, torch.float32, count)
        request.policy.mask = _pointer(mask, torch.uint8, count)
        request.policy.advantages = _pointer(advantages, torch.float32, sequences)
        _set_config(request.policy.config, loss)
        request.vocab = request.row_stride = vocab
        request.dtype = CONSTANTS[f"GROUPGRAD_{_DTYPES[dtype]}"]
        request.tokens = _pointer(tokens, torch.int32, count)
        request.log_probs = self.log_probs.data_ptr()
        request.entropies = self.entropies.data_ptr()
        self._values = (dtype, count * vocab)
        self._scratch = _Scratch(library.c.groupgrad_logits_workspace(ctypes.byref(request)), tokens.device)
        self._arguments = self._scratch.arguments()
        self.read_metrics = self._scratch.read_metrics

    @property
    def extra_bytes(self):
        """Device memory in addition to the logits, the gradient and the inputs: per-token outputs, metrics, workspace."""
        return self._scratch.bytes + 4 * (self.log_probs.numel() + self.entropies.numel())

    def __call__(self, logits, gradient):
        """Writes the gradient, which may be the logits' own tensor."""
        self._request.logits = _pointer(logits, *self._values)
        self._request.grad_logits = _pointer(gradient, *self._values)
        stream = ctypes.c_void_p(self._library.stream())
        request = ctypes.byref(self._request)
        if self._library.c.groupgrad_logits_loss(request, None, *self._arguments, stream) != 0:
            raise self._library.error()


class PolicyLoss:
    """groupgrad_policy_loss from rewards and log-probs: advantages (equal groups, HA-DW), loss and gradient.

    log_probs, old_log_probs: float32 [B, T]. ref_log_probs: likewise, or None without a KL term. rewards: float32 [B].
    mask: uint8 [B, T] or None. loss: a Loss. advantage: an Advantage.
    """

    def __init__(self, library, loss, advantage, log_probs, old_log_probs, ref_log_probs, rewards, mask):
        self._library = library
        sequences, length = log_probs.shape
        count = sequences * length
        groups = sequences // advantage.group_size
        device = log_probs.device
        self.gradient = torch.empty_like(log_probs)
        per_reward = [torch.empty(sequences, device=device) for _ in range(2)]
        per_group = [torch.empty(groups, device=device) for _ in range(2)]
        active = torch.empty(groups, dtype=torch.uint8, device=device)
        self._inputs = (log_probs, old_log_probs, ref_log_probs, rewards, mask)  # kept alive
        self._outputs = (*per_reward, *per_group, active)

        self._rewards = library.request("advantage")
        self._rewards.rewards_float32 = _pointer(rewards, torch.float32, sequences)
        self._rewards.reward_count = sequences
        self._rewards.groups = groups
        self._rewards.group_size = advantage.group_size
        self._rewards.epsilon = advantage.epsilon
        self._rewards.hadw = 1
        self._rewards.hadw_scale = advantage.hadw_scale
        self._rewards.anchor = advantage.anchor
        self._rewards.advantages, self._rewards.weights = (t.data_ptr() for t in per_reward)
        self._rewards.group_mean, self._rewards.group_std = (t.data_ptr() for t in per_group)
        self._rewards.active = active.data_ptr()

        request = self._request = library.request("policy")
        request.sequences = sequences
        request.length = length
        request.log_probs = _pointer(log_probs, torch.float32, count)
        request.old_log_probs = _pointer(old_log_probs, torch.float32, count)
        request.ref_log_probs = _pointer(ref_log_probs, torch.float32, count)
        request.mask = _pointer(mask, torch.uint8, count)
        request.grad_log_probs = self.gradient.data_ptr()
        _set_config(request.config, loss)
        self._scratch = _Scratch(library.c.groupgrad_policy_workspace(ctypes.byref(request)), device)
        self._arguments = [ctypes.byref(request), ctypes.byref(self._rewards), *self._scratch.arguments()]
        self.read_metrics = self._scratch.read_metrics

    @property
    def extra_bytes(self):
        """Device memory in addition to the inputs and the gradient."""
        return self._scratch.bytes + sum(t.numel() * t.element_size() for t in self._outputs)

    def __call__(self):
        stream = ctypes.c_void_p(self._library.stream())
        if self._library.c.groupgrad_policy_loss(*self._arguments, stream) != 0:
            raise self._library.error()
