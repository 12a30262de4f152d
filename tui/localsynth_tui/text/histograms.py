"""Histograms of the columns: those of the report (original and synthetic), or of the synthetic rows alone.

A histogram is {"bars": names, "ends": bounds (ordered columns only), NAME: fractions, ...},
as in report.json. Histograms of the report are private; counts in synthetic.duckdb are not.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from localsynth.errors import ConfigError
from localsynth.evaluate.arrays import span
from localsynth.schema.columns import Boolean, Category, Column, Date, DateTime, Integer, Number, Schema, Time, ends
from localsynth.store.bulk import quoted
from localsynth.store.synthetic import SyntheticStore
from localsynth_tui.text.formatting import plain

_BINS = 24
_MAX_BARS = 12
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_LINES = 3
"""Height of the drawing of an ordered column."""
_MIN_WIDTH, _MAX_WIDTH = 24, 48
"""Of that drawing, in characters."""


@dataclass(frozen=True)
class Shape:
    """One column: its name, what is counted ("category", "text, length in characters", ...), and its histogram or a note."""

    column: str
    label: str
    histogram: Mapping[str, Any] | None = None
    note: str = "no histogram"


# --- reading and counting --------------------------------------------------------------------------------------------


def shapes_of_report(path: Path) -> list[Shape]:
    """The columns of a report.json. Raises ConfigError where it cannot be read."""
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        lengths = {entry["column"]: entry["lengths"] for entry in figures["writing"]}
        found = []
        for entry in figures["columns"]:
            name, kind, histogram = entry["column"], entry["kind"], entry.get("histogram")
            if histogram is None and (histogram := lengths.get(name)) is not None:
                kind += ", length in characters"
            found.append(Shape(name, kind, histogram))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} cannot be read.", "Make the report again: Report (6), E.") from None
    return found


def shapes_of_rows(store: SyntheticStore, schema: Schema) -> list[Shape]:
    """Histograms of the learned columns, counted in the synthetic rows. Raises ConfigError where there are no rows."""
    return [_shape(store, column) for column in schema.learned()]


def _shape(store: SyntheticStore, column: Column) -> Shape:
    name = quoted(column.name)
    if isinstance(column, Integer | Number | Date | DateTime):
        return Shape(column.name, column.kind, _ordered(store, column, name))
    if isinstance(column, Category | Boolean):
        _, rows = store.query(f"SELECT {name}, count(*) FROM synthetic GROUP BY 1")
        return Shape(column.name, column.kind, _labelled(column, dict(rows)))
    _, rows = store.query(f"SELECT avg(length({name})) FROM synthetic")
    mean = rows[0][0]
    return Shape(column.name, column.kind, note="empty" if mean is None else f"{mean:.0f} characters on average")


def _labelled(column: Category | Boolean, counts: Mapping[Any, int]) -> dict[str, Any]:
    names: dict[Any, str] = {True: "yes", False: "no"} if isinstance(column, Boolean) else {v: v for v in column.allowed()}
    if counts.get(None):
        names[None] = "(empty)"
    order = sorted(names, key=lambda value: -counts.get(value, 0))
    shown, rest = (order, []) if len(order) <= _MAX_BARS else (order[: _MAX_BARS - 1], order[_MAX_BARS - 1 :])
    total = max(1, sum(counts.values()))
    shares = [counts.get(value, 0) / total for value in shown]
    bars = [names[value] for value in shown]
    if rest:
        bars.append(f"{len(rest)} others")
        shares.append(sum(counts.get(value, 0) for value in rest) / total)
    return {"bars": bars, "synthetic": shares}


def _ordered(store: SyntheticStore, column: Integer | Number | Date | DateTime, name: str) -> dict[str, Any]:
    """Counts in equal bins over the range of the schema: the same bins as in the report."""
    low, high = span(column)
    if isinstance(column, Integer):
        width: float = math.ceil((high - low + 1) / _BINS)
        bins = math.ceil((high - low + 1) / width)
    else:
        width, bins = max(high - low, 1e-9) / _BINS, _BINS
    value = f"{name}::DOUBLE"
    if isinstance(column, Date | DateTime):
        value = f"epoch({name}{'' if isinstance(column, Time) else '::TIMESTAMP'}) / 86400"
    place = f"greatest(0, least({bins - 1}, floor(({value} - {low!r}) / {width!r})))::INTEGER"
    _, rows = store.query(f"SELECT {place}, count(*) FROM synthetic WHERE {name} IS NOT NULL GROUP BY 1")
    counts = dict(rows)
    total = max(1, sum(counts.values()))
    shares = [counts.get(index, 0) / total for index in range(bins)]
    return {"bars": [""] * bins, "ends": ends(column), "synthetic": shares}


# --- drawing ----------------------------------------------------------------------------------------------


def draw(shapes: Sequence[Shape], width: int) -> Text:
    """All columns in `width` characters: ordered ones as heights, others as bars."""
    text = Text(no_wrap=True)
    for shape in shapes:
        text.append(plain(shape.column), style="bold")
        text.append(f"  {shape.label}\n", style="dim")
        if shape.histogram is None:
            text.append(f"  {shape.note}\n")
        elif "ends" in shape.histogram:
            _heights(text, shape.histogram, width)
        else:
            _bars(text, shape.histogram, width)
        text.append("\n")
    return text


def _sides(histogram: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    return [(side, histogram[side]) for side in ("original", "synthetic") if side in histogram]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %" if fraction == 0 or fraction >= 0.1 else f"{100 * fraction:.1f} %"


def _bars(text: Text, histogram: Mapping[str, Any], width: int) -> None:
    sides = _sides(histogram)
    names = [plain(name) for name in histogram["bars"]]
    label = min(20, max((len(name) for name in names), default=0))
    room = max(8, min(40, (width - label - 3) // len(sides) - 9))
    top = max((share for _, shares in sides for share in shares), default=0.0) or 1.0
    text.append(" " * (label + 2) + "".join(f"{side:<{room + 9}}" for side, _ in sides).rstrip() + "\n", style="dim")
    for index, name in enumerate(names):
        text.append(f"  {name if len(name) <= label else name[: label - 1] + '…':<{label}}")
        for _, shares in sides:
            filled = round(room * shares[index] / top)
            text.append(f" {'█' * filled}{' ' * (room - filled)} {_percent(shares[index]):>6} ")
        text.append("\n")


def _heights(text: Text, histogram: Mapping[str, Any], width: int) -> None:
    sides = _sides(histogram)
    bins = max(1, len(histogram["bars"]))
    room = max(_MIN_WIDTH, (width - 2) // len(sides) - 3)
    each = max(1, min(room, _MAX_WIDTH) // bins)
    room = min(room, max(bins * each, _MIN_WIDTH))
    top = max((share for _, shares in sides for share in shares), default=0.0) or 1.0
    text.append("  " + "   ".join(f"{side:<{room}}" for side, _ in sides).rstrip() + "\n", style="dim")
    for line in range(_LINES - 1, -1, -1):
        drawn = []
        for _, shares in sides:
            eighths = [min(8, max(0, math.ceil(8 * _LINES * share / top) - 8 * line)) for share in shares]
            drawn.append("".join(_EIGHTHS[level] * each for level in eighths).ljust(room))
        text.append("  " + "   ".join(drawn).rstrip() + "\n")
    # Only the day of date-times: two full ones do not fit under the bars.
    first, last = (plain(end).partition(" ")[0] for end in histogram["ends"])
    axis = f"{first}{last:>{max(bins * each, len(first) + 1 + len(last)) - len(first)}}"
    text.append("  " + "   ".join(f"{axis:<{room}}" for _ in sides).rstrip() + "\n", style="dim")
