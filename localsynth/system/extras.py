"""The libraries that only training needs, and what to say where they are not installed.

They are an extra of the package (`localsynth[train]`), since they take gigabytes: who only draws rows from a finished model,
looks at them or verifies a certificate does without. Imports none of them.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from localsynth.errors import ResourceError

__all__ = ["QUANTIZING_PART", "TRAINING_PARTS", "install_extra", "need_quantizing_part", "need_training_parts"]

TRAINING_PARTS = ("opacus", "peft", "torch", "transformers")
"""Distributions of the extra `train`; each is imported by the same name."""

QUANTIZING_PART = "bitsandbytes"
"""What the extra `cuda` adds: the base model in 4 bits (NF4)."""


def install_extra(extra: str) -> str:
    """The command that adds an extra of the package, to be typed into a shell."""
    # An application that pipx installed has an environment of its own, which the pip on the path knows nothing of; and pipx
    # leaves what is installed as it is, unless forced. It leaves a note of its own there, also where
    # PIPX_HOME is another directory than the usual one.
    by_pipx = "pipx" in Path(sys.prefix).parts or Path(sys.prefix, "pipx_metadata.json").is_file()
    return f'{"pipx install --force" if by_pipx else "pip install"} "localsynth[{extra}]"'


def need_training_parts() -> None:
    """Raises ResourceError, with the command that installs them, where a part is missing."""
    missing = [part for part in TRAINING_PARTS if find_spec(part) is None]
    if missing:
        raise ResourceError(
            f"Training, exporting and planning need {', '.join(missing)}: not installed here.",
            f"Install what is missing with: {install_extra('train')} (drawing rows and verifying work without).",
        )


def need_quantizing_part() -> None:
    """Raises ResourceError, with the command that installs it, where the base model cannot be held in 4 bits."""
    if find_spec(QUANTIZING_PART) is None:
        raise ResourceError(
            f"Training in NF4, the default on a GPU, needs {QUANTIZING_PART}: not installed here.",
            f"Install it with: {install_extra('cuda')}, or train in bf16: --set train.precision=bf16",
        )
