"""All secret randomness: noise, Bernoulli and Poisson sampling, splits and dropped rows.

It comes from one cryptographic generator, AES-256 in counter mode under a key from the
operating system (with AES instructions, faster than ChaCha20). Gaussian noise is half the sum
of four independent Gaussians, after Holohan & Braghin 2021, "Secure Random Sampling in
Differential Privacy" (arXiv:2107.10138), which makes the known attack on the gaps between
floating-point samples (Mironov 2012) infeasible. It does not remove rounding errors and does
not cover timing.

The generator cannot be seeded by a configuration, pickled, copied or printed: anyone who knows
the stream can subtract the noise.
"""

import os
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

SECURE_LABEL = "AES-256-CTR keyed by the operating system; Gaussian noise as the sum of four"
REHEARSAL_LABEL = "REHEARSAL on random rows: no statement about any table"
"""Replaces the noise label in a rehearsal's certificate, so that it cannot be mistaken for a real one."""

_BLOCK = 1 << 14
"""Box-Muller pairs a step: they fit into the processor's cache, which is twice as fast."""


def _key_stream(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()


class RandomSource(ABC):
    """The interface of generators. `label` names the source of its bits and is recorded in every artifact."""

    label: str

    @abstractmethod
    def random_bytes(self, n: int) -> bytes:
        """`n` random bytes."""

    def _words(self, n: int) -> NDArray[np.uint64]:
        return np.frombuffer(self.random_bytes(8 * n), dtype=np.uint64)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Shape (n,): multiples of 2**-53 in [0, 1)."""
        return (self._words(n) >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)

    def bernoulli(self, p: float, n: int) -> NDArray[np.bool_]:
        """Shape (n,): independent Bernoulli draws, True with probability `p` (to within 2**-53).

        Raises ValueError outside [0, 1].
        """
        if not 0 <= p <= 1:
            raise ValueError(f"a probability must be between 0 and 1, not {p}")
        return self.uniform(n) < p

    def integers(self, high: int, n: int) -> NDArray[np.int64]:
        """Shape (n,): uniform over 0 .. high-1 without bias (words above the last multiple of `high` are rejected)."""
        if not 1 <= high <= 2**62:
            raise ValueError(f"high must be between 1 and 2**62, not {high}")
        last = np.uint64(2**64 - 2**64 % high - 1)
        words = self._words(n)
        while not (accepted := words <= last).all():
            words = np.concatenate([words[accepted], self._words(n - int(accepted.sum()))])
        return (words % np.uint64(high)).astype(np.int64)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Shape (n,): a uniformly random order of 0 .. n-1."""
        while True:
            words = self._words(n)
            order = np.argsort(words)
            ranked = words[order]
            # Equal keys would be ordered by the sort and not at random; this practically never happens.
            if not (ranked[1:] == ranked[:-1]).any():
                return order.astype(np.int64)

    def gaussian(self, n: int) -> NDArray[np.float64]:
        """Shape (n,): independent N(0, 1), each half the sum of four Box-Muller Gaussians.

        The four come from different Box-Muller pairs, so every value uses eight uniforms (shared with one other).
        """
        out = np.empty(n)
        for start in range(0, n, 2 * _BLOCK):
            block = out[start : start + 2 * _BLOCK]
            pairs = -(-len(block) // 2)
            uniforms = self.uniform(8 * pairs).reshape(8, pairs)
            # 1 - u lies in (0, 1], so the logarithm is finite.
            radius = np.sqrt(-2.0 * np.log(1.0 - uniforms[:4]))
            angle = uniforms[4:] * (2.0 * np.pi)
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            block[:pairs] = (x[0] + x[1] + y[2] + y[3]) / 2.0
            block[pairs:] = ((y[0] + y[1] + x[2] + x[3]) / 2.0)[: len(block) - pairs]
        return out

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} must not be pickled or copied: its state would undo the noise")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.__reduce__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.label}>"


class SecureRandom(RandomSource):
    """The generator of every real run. Takes no seed; a forked child gets a new key."""

    label = SECURE_LABEL

    def __init__(self) -> None:
        self._rekey()

    def _rekey(self) -> None:
        self.__owner = os.getpid()
        self.__stream = _key_stream(os.urandom(32))

    def random_bytes(self, n: int) -> bytes:
        """`n` random bytes. In a forked child the parent's stream is never repeated."""
        if os.getpid() != self.__owner:
            self._rekey()
        return self.__stream.update(bytes(n))


class RehearsalRandom(SecureRandom):
    """A secure generator whose label tells that it was used on random rows, in a rehearsal."""

    label = REHEARSAL_LABEL
