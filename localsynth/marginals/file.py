"""The file of fitted marginals, which may come from anyone."""

from pathlib import Path
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.system.canonical_json import parse_json

_MAX_BYTES = 64 * 2**20
"""Of a file of marginals; the largest that `measure_marginals` makes has about a fifth of that."""


def read_marginals(path: Path) -> MarginalModel | SequenceModel:
    """The fitted marginals in a file, of single rows or of sequences. Raises IntegrityError."""
    if path.is_file() and path.stat().st_size > _MAX_BYTES:
        raise IntegrityError(f"{path} is too large for a file of marginals.", "Restore it from a backup, or train again.")
    try:
        tree: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.") from None
    if isinstance(tree, dict) and "sequence" in tree:
        return SequenceModel.from_json(tree)
    return MarginalModel.from_json(tree)


def read_single_rows(path: Path) -> MarginalModel:
    """The fitted marginals of a hybrid, whose rows are no sequences. Raises IntegrityError."""
    model = read_marginals(path)
    if isinstance(model, SequenceModel):
        raise IntegrityError(f"{path} holds sequences, and the model generates single rows.", "Restore it from a backup.")
    return model
