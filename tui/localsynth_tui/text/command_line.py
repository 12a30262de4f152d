"""The equivalent command of an action in the terminal UI, as text to copy."""

import csv
import io
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def command_line(verb: str, workspace: Path | None, options: Mapping[str, Any] | None = None) -> str:
    """`localsynth VERB WS` with the flags for the worker's `options`, quoted for a shell."""
    words = ["localsynth", *verb.replace("_", "-").split()]
    if workspace is not None:
        words.append(str(workspace))
    for name, value in (options or {}).items():
        if value is not None and value is not False:
            words.append("--" + name.replace("_", "-"))
            if value is not True:
                words.append(comma_separated(value) if isinstance(value, list) else str(value))
    return shlex.join(words)


def comma_separated(values: Iterable[str]) -> str:
    """Values as the command line and the forms read them, with commas between."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue()
