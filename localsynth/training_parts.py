"""The libraries that only training needs, and what to say where they are not installed.

They are an extra of the package (`localsynth[train]`), since they take gigabytes: who only draws rows from a finished model,
looks at them or verifies a certificate does without. Imports none of them.
"""

from importlib.util import find_spec

from localsynth.errors import ResourceError

__all__ = ["QUANTIZING_PART", "TRAINING_PARTS", "need_quantizing_part", "need_training_parts"]

TRAINING_PARTS = ("opacus", "peft", "torch", "transformers")
"""Distributions of the extra `train`; each is imported by the same name."""

QUANTIZING_PART = "bitsandbytes"
"""What the extra `cuda` adds: the base model in 4 bits (NF4)."""


def need_training_parts() -> None:
    """Raises ResourceError, with the command that installs them, where a part is missing."""
    missing = [part for part in TRAINING_PARTS if find_spec(part) is None]
    if missing:
        raise ResourceError(
            f"Training, exporting and planning need {', '.join(missing)}: not installed here.",
            'Install what is missing with: pip install "localsynth[train]" (drawing rows and verifying work without).',
        )


def need_quantizing_part() -> None:
    """Raises ResourceError, with the command that installs it, where the base model cannot be held in 4 bits."""
    if find_spec(QUANTIZING_PART) is None:
        raise ResourceError(
            f"Training in NF4, the default on a GPU, needs {QUANTIZING_PART}: not installed here.",
            'Install it with: pip install "localsynth[cuda]", or train in bf16: --set train.precision=bf16',
        )
