"""One thread for numerical libraries: on a busy machine, waiting threads turn seconds into minutes."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps BLAS and OpenMP to one thread inside the block."""
    import sklearn.ensemble  # noqa: F401 - only libraries that are loaded already can be limited

    with threadpool_limits(1):
        yield
