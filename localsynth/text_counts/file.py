"""The file of what was counted of the texts: topics to choose among texts by, or words to correct their writing by."""

from pathlib import Path

from localsynth.errors import IntegrityError
from localsynth.system.canonical_json import parse_json
from localsynth.text_counts.token_counts import WordCount
from localsynth.text_counts.topic_counts import Selection

__all__ = ["read_selection"]

_MOST_BYTES = 64 * 2**20


def read_selection(path: Path) -> Selection | WordCount:
    """The selection in a file. Raises IntegrityError."""
    unreadable = IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise unreadable
        tree = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise unreadable from None
    counted = tree.get("counted") if isinstance(tree, dict) else None
    return WordCount.from_json(tree) if counted == "words" else Selection.from_json(tree)
