"""The base of objects that hold something open."""

from typing import Self


class Closing:
    """A context manager that closes itself."""

    def close(self) -> None:
        """Give back what the object holds open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
