"""The base models localsynth knows, where they come from, and how they are fetched and checked.

`catalog` finds, checks and describes them, `fetch` brings them here. Knows nothing of the rest of localsynth.
"""

from localsynth_models.errors import ModelError

__all__ = ["ModelError"]
