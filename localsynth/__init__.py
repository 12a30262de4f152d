"""Private synthetic tables under differential privacy. `import localsynth as ls` offers the names of `localsynth.api`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localsynth.api import Certificate, LocalsynthError, Rows, Schema, Synthesizer, open, verify

__all__ = ["Certificate", "LocalsynthError", "Rows", "Schema", "Synthesizer", "open", "verify"]


def __getattr__(name: str) -> Any:
    # Only when asked for, since the command line and the worker do without.
    if name in __all__:
        from localsynth import api

        return getattr(api, name)
    raise AttributeError(f"module 'localsynth' has no attribute {name!r}")
