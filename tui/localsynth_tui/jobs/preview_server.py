"""A sealed process that reads the first rows of the original table for the screen, and stores nothing.

It takes one request on stdin and writes one JSON line to stdout, as the worker does. Its
answer is private: the terminal UI shows it and stores it nowhere.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localsynth.events import Event
from localsynth.system.network_seal import seal
from localsynth.worker import failure_event

ROWS = 50
_SEARCHED_ROWS = 1000
"""Rows searched for personal data: more would take longer than a user waits."""


def first_rows(workspace: Path) -> dict[str, Any]:
    """A preview of every column of the source, excluded ones too.

    `columns` and `rows` (at most `ROWS`, values as text or null), the inferred `schema`, the
    reasons for it (`notes`), and `hints` of personal data (name → [kind, description]).
    Raises ConfigError or DataError.
    """
    from localsynth.config import load_config
    from localsynth.ingest.infer import infer_schema
    from localsynth.ingest.sources.open import open_source
    from localsynth.workspace.paths import Workspace
    from localsynth_tui.text.pii_hints import find_pii_hints

    data = load_config(Workspace.open(workspace).config_path).data
    source = open_source(data.model_copy(update={"columns": None}))
    first = list(itertools.chain.from_iterable(itertools.islice(source.batches(_SEARCHED_ROWS), 1)))
    guess, notes = infer_schema(source, data.missing)
    return {
        "columns": source.columns,
        "rows": first[:ROWS],
        "schema": [{"name": c.name, "kind": c.kind, **c.model_dump(mode="json", exclude_defaults=True)} for c in guess.columns],
        "notes": _by_column(source.columns, notes),
        "hints": {name: [hint.kind, hint.description] for name, hint in find_pii_hints(guess.columns, first).items()},
    }


def _by_column(names: Sequence[str], notes: Sequence[str]) -> dict[str, str]:
    """Each column's notes in one string."""
    found = {}
    for name in names:
        start = f"{name!r}: "
        texts = [note.removeprefix(start) for note in notes if note.startswith(start)]
        # PII hints and the treatment of texts are shown for every column anyway.
        if kept := [text for text in texts if not text.startswith(("looks like", "free text"))]:
            found[name] = " ".join(kept)
    return found


def main() -> int:
    """`python -m localsynth_tui.jobs.preview_server`."""
    seal()
    request = json.load(sys.stdin)
    answer: Event
    try:
        answer = {"kind": "result", "result": first_rows(Path(request["workspace"]))}
    except Exception as error:
        answer = failure_event(error)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
