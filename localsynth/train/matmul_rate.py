"""How fast this machine multiplies matrices of a model's shape: the limit that training speed is compared with."""

import time

import torch


def matmul_rate(precision: str, width: int, inner: int, device: str, tokens: int = 2048, seconds: float = 0.4) -> float:
    """Floating-point operations a second of (tokens, width) x (width, inner) products on `device` ("cpu" or "cuda"); the best of
    several short rounds."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    left, right = torch.randn(tokens, width, dtype=dtype, device=device), torch.randn(inner, width, dtype=dtype, device=device)
    best, started = 0.0, time.perf_counter()
    with torch.no_grad():
        while time.perf_counter() - started < seconds or best == 0.0:
            begun = time.perf_counter()
            for _ in range(4):
                torch.nn.functional.linear(left, right)
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 4 * 2 * tokens * width * inner / (time.perf_counter() - begun))
    return best
