"""A contender of model.ts: parts of a transformer in PyTorch on the CPU. Reads one request per line, responds with seconds, or
with bytes to `peak`.

Usage: model_torch.py THREADS LAYERS PRECISION. Whole models are those of the package transformers; without it the answer is nan.
With precision bfloat16 training has weights in float32 and products in bfloat16 (autocast), generation has weights in bfloat16.
"""

import resource
import sys
import time

import torch
import torch.nn.functional as F

threads, layers, narrow = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "bfloat16"
torch.set_num_threads(threads)
torch.manual_seed(0)
try:
    import transformers
except ImportError:
    transformers = None
print(f"PyTorch {torch.__version__}, transformers {transformers and transformers.__version__}", flush=True)

HEADS, KEY_HEADS, SIZE, VOCABULARY = 9, 3, 64, 49152
model = None


def loaded():
    global model
    if model is None:
        config = transformers.LlamaConfig(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=HEADS,
            num_key_value_heads=KEY_HEADS, vocab_size=VOCABULARY, tie_word_embeddings=True,
        )
        model = transformers.LlamaForCausalLM(config)
    return model


def tokens(*shape):
    return torch.randint(0, VOCABULARY, shape)


def normal(*shape):
    return torch.randn(*shape, requires_grad=True)


def both(inputs, compute):
    def work():
        y = compute()
        torch.autograd.grad(y, inputs, torch.ones_like(y))

    return work


def attention(sequences, length):
    q, k, v = (normal(sequences, heads, length, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    return both((q, k, v), lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))


def norm(rows, width):
    x, weight = normal(rows, width), normal(width)
    return both((x, weight), lambda: F.rms_norm(x, (width,), weight, 1e-5))


def gated(rows, width):
    gate, up = normal(rows, width), normal(rows, width)
    return both((gate, up), lambda: F.silu(gate) * up)


def update(sequences, length):
    ids = tokens(sequences, length)
    optimizer = torch.optim.AdamW(loaded().parameters(), lr=1e-6, fused=True)

    def work():
        loaded().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            logits = loaded()(ids).logits
        F.cross_entropy(logits.float().view(-1, VOCABULARY), ids.view(-1)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def generate(rows, prompt, count):
    ids = tokens(rows, prompt)
    if narrow:
        loaded().to(torch.bfloat16)

    def work():
        loaded().eval()
        with torch.inference_mode():
            loaded().generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                              do_sample=False)

    return work


kinds = {"attention": attention, "norm": norm, "gated": gated, "update": update, "generate": generate}
ready = {}
for line in sys.stdin:
    if line.strip() == "peak":
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
        continue
    kind, *numbers = line.split()
    if transformers is None and kind in ("update", "generate"):
        print("nan", flush=True)
        continue
    if line not in ready:
        ready[line] = kinds[kind](*(int(number) for number in numbers))
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < 0.1 or best == float("inf"):
        begin = time.perf_counter()
        ready[line]()
        best = min(best, time.perf_counter() - begin)
    print(best, flush=True)
