"""The libraries that only training needs, and what to say where they are not installed.

They are an extra of the package (`localsynth[train]`), since they take gigabytes: who only draws rows from a finished model,
looks at them or verifies a certificate does without. Imports none of them.
"""

from importlib.util import find_spec

from localsynth.errors import ResourceError

__all__ = ["TRAINING_PARTS", "need_training_parts"]

TRAINING_PARTS = ("bitsandbytes", "opacus", "peft", "torch", "transformers")
"""Distributions of the extra `train`; each is imported by the same name."""


def need_training_parts() -> None:
    """Raises ResourceError, with the command that installs them, where a part is missing."""
    missing = [part for part in TRAINING_PARTS if find_spec(part) is None]
    if missing:
        raise ResourceError(
            f"Training, exporting and planning need {', '.join(missing)}: not installed here.",
            'Install what is missing with: pip install "localsynth[train]" (drawing rows and verifying work without).',
        )
