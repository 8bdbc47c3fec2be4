"""A contender of matmul.ts: products in PyTorch on the CPU. Reads one shape per line, responds with seconds.

Usage: matmul_torch.py PRECISION THREADS. With bfloat16 both factors are held in bfloat16.
"""

import sys
import time

import torch

precision, threads = sys.argv[1], int(sys.argv[2])
dtype = getattr(torch, precision)
torch.set_num_threads(threads)
torch.manual_seed(0)
print(f"PyTorch {torch.__version__}", flush=True)

current = None
with torch.inference_mode():
    for line in sys.stdin:
        shape = tuple(int(size) for size in line.split())
        if shape != current:
            m, k, n = current = shape
            a = (torch.rand(m, k) * 2 - 1).to(dtype)
            b = (torch.rand(k, n) * 2 - 1).to(dtype)
        best = float("inf")
        start = time.perf_counter()
        while time.perf_counter() - start < 0.1 or best == float("inf"):
            begin = time.perf_counter()
            torch.matmul(a, b)
            best = min(best, time.perf_counter() - begin)
        print(best, flush=True)
