"""A random source with a known seed, so that tests can repeat a measurement."""

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from localsynth.privacy.noise import RandomSource

INSECURE_LABEL = "INSECURE, for tests"


class InsecureRandom(RandomSource):
    """The distributions of `RandomSource` over a key stream that the seed fixes.

    A certificate made with it fails verification.
    """

    label = INSECURE_LABEL

    def __init__(self, seed: int) -> None:
        key = hashlib.sha256(f"localsynth test {seed}".encode()).digest()
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def random_bytes(self, n: int) -> bytes:
        """`n` bytes of the stream that the seed fixes."""
        return self._stream.update(bytes(n))
