"""The libraries that only some work needs, and the error where they are missing.

Those for training are an extra of the package (`localsynth[train]`), since they take gigabytes; sampling, queries and
verification do not need them. Those for some formats of files are another (`localsynth[formats]`). None is imported here.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from localsynth.errors import ResourceError

TRAINING_PARTS = ("opacus", "peft", "torch", "transformers")
"""Distributions of the extra `train`; each is imported by the same name."""

QUANTIZING_PART = "bitsandbytes"
"""The distribution that the extra `cuda` adds, for the base model in 4 bits (NF4)."""


def install_extra(extra: str) -> str:
    """The shell command that installs an extra of the package."""
    # pipx installs into an environment of its own, which the pip on the path does not change, and it
    # changes an installed application only with --force. Its metadata file also identifies it where
    # PIPX_HOME is not the usual directory.
    by_pipx = "pipx" in Path(sys.prefix).parts or Path(sys.prefix, "pipx_metadata.json").is_file()
    return f'{"pipx install --force" if by_pipx else "pip install"} "localsynth[{extra}]"'


def need_training_parts() -> None:
    """Raises ResourceError, with the command that installs them, where a part is missing."""
    missing = [part for part in TRAINING_PARTS if find_spec(part) is None]
    if missing:
        raise ResourceError(
            f"Training, exporting and planning need {', '.join(missing)}, which is not installed.",
            f"Install it with: {install_extra('train')} (sampling and verifying work without).",
        )


def need_quantizing_part() -> None:
    """Raises ResourceError, with the command that installs it, where the base model cannot be held in 4 bits."""
    if find_spec(QUANTIZING_PART) is None:
        raise ResourceError(
            f"Training in NF4, the default on a GPU, needs {QUANTIZING_PART}, which is not installed.",
            f"Install it with: {install_extra('cuda')}, or train in bf16: --set train.precision=bf16",
        )


def need_format_part(module: str, path: Path) -> None:
    """Raises ResourceError, with the command that installs it, where the library for such a file is missing."""
    if find_spec(module) is None:
        raise ResourceError(
            f"The format of {path.name} needs {module.replace('_', '-')}, which is not installed.",
            f"Install it with: {install_extra('formats')}, or use CSV or Parquet instead.",
        )
