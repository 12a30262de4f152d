"""A sealed process that reads the first rows of the original table for the screen, and stores nothing.

It takes one request on stdin and writes one JSON line to stdout, as the worker does. Its
answer is private: the terminal UI shows it and stores it nowhere.
"""

import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localsynth.errors import LocalsynthError
from localsynth.events import Event
from localsynth.system.network_seal import seal
from localsynth.worker import failure_event

if TYPE_CHECKING:
    from localsynth.config import Config
    from localsynth.workspace.paths import Workspace

ROWS = 50
_SEARCHED_ROWS = 1000
"""Rows searched for personal data: more would take longer than a user waits."""


def first_rows(workspace: Path) -> dict[str, Any]:
    """A preview of every column of the source, excluded ones too.

    `columns` and `rows` (at most `ROWS`, values as text or null), the inferred `schema`, the
    reasons for it (`notes`), `hints` of personal data (name → [kind, description]), three different values of each
    column (`examples`), and what `plan` warns of each that is to be measured (`warnings`). Raises ConfigError or DataError.
    """
    from localsynth.config import load_config
    from localsynth.ingest.infer import REPEATED, infer_schema
    from localsynth.ingest.sources.open import open_source
    from localsynth.workspace.paths import Workspace
    from localsynth_tui.text.pii_hints import find_pii_hints

    opened = Workspace.open(workspace)
    config = load_config(opened.config_path)
    data = config.data
    source = open_source(data.model_copy(update={"columns": None}))
    first = list(itertools.chain.from_iterable(itertools.islice(source.batches(_SEARCHED_ROWS), 1)))
    guess, notes = infer_schema(source, data.missing)
    by_column = _by_column(source.columns, notes)
    hints = {name: [hint.kind, hint.description] for name, hint in find_pii_hints(guess.columns, first).items()}
    hints |= {name: ["unit", "privacy unit"] for name, note in by_column.items() if REPEATED in note}
    return {
        "columns": source.columns,
        "rows": first[:ROWS],
        "schema": [{"name": c.name, "kind": c.kind, **c.model_dump(mode="json", exclude_defaults=True)} for c in guess.columns],
        "notes": by_column,
        "hints": hints,
        "examples": {name: _examples(row[place] for row in first) for place, name in enumerate(source.columns)},
        "warnings": _warnings(opened, config),
    }


def _examples(values: Iterable[str | None]) -> list[str]:
    return list(itertools.islice(dict.fromkeys(value for value in values if value and value.strip()), 3))


def _warnings(workspace: "Workspace", config: "Config") -> dict[str, str]:
    """What each column whose list or range will be measured needs, where the number of units is too small or not known."""
    from localsynth.pipeline.plan import known_size
    from localsynth.pipeline.session import Session
    from localsynth.planning.warnings import measurement_needs

    try:
        schema, origin, size = known_size(Session(workspace, config, lambda _event: None, lambda: False))
        needs = measurement_needs(config, None if origin == "assumed" else size.units) if schema.unmeasured() else []
    except LocalsynthError:
        # The plan says what is wrong with the settings.
        return {}
    return {name: need.of_each for need in needs for name in need.columns}


def _by_column(names: Sequence[str], notes: Sequence[str]) -> dict[str, str]:
    """Each column's notes in one string."""
    from localsynth.ingest.infer import REPEATED

    found = {}
    for name in names:
        start = f"{name!r}: "
        texts = [note.removeprefix(start) for note in notes if note.startswith(start)]
        # PII hints and the treatment of texts are shown for every column anyway; which key is the unit is not.
        if kept := [text for text in texts if REPEATED in text or not text.startswith(("looks like", "free text"))]:
            found[name] = " ".join(kept).replace("add it to data.missing", "enter it in No value")
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
