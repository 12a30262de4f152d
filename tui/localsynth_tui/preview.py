"""A sealed process that reads the first rows of the original table for the person at the screen, and keeps nothing.

It speaks as the engine's process does: a request on stdin, one JSON line on stdout. What it answers is private: the terminal UI
shows it and writes it nowhere.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from localsynth.errors import ExitCode, LocalsynthError

__all__ = ["ROWS", "first_rows"]

ROWS = 50


def first_rows(workspace: Path) -> dict[str, Any]:
    """columns, rows (at most `ROWS`, every value as text or null), and what each column looks like: {column: kind}, and notes.

    Raises ConfigError or DataError.
    """
    from localsynth.config import load_config
    from localsynth.ingest.infer import infer_schema
    from localsynth.ingest.source import open_source
    from localsynth.workspace import Workspace

    data = load_config(Workspace.open(workspace).config_path).data
    source = open_source(data)
    rows = list(itertools.chain.from_iterable(itertools.islice(source.batches(ROWS), 1)))[:ROWS]
    guess, notes = infer_schema(source, data.missing)
    looks = {column.name: column.of if column.kind == "surrogate" else column.kind for column in guess.columns}
    return {"columns": source.columns, "rows": rows, "looks": looks, "notes": notes}


def main() -> int:
    """`python -m localsynth_tui.preview`."""
    from localsynth.isolation import seal

    seal()
    request = json.load(sys.stdin)
    answer: dict[str, Any]
    try:
        answer = {"kind": "result", "result": first_rows(Path(request["workspace"]))}
    except LocalsynthError as error:
        answer = {"kind": "failed", "code": int(error.exit_code), "message": error.message, "hint": error.hint}
    except Exception as error:
        # Not the error's own text: that may quote a value.
        message = f"The table could not be read ({type(error).__name__})."
        answer = {
            "kind": "failed",
            "code": int(ExitCode.BUG),
            "message": message,
            "hint": "Look at it with: localsynth ingest WS",
        }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
