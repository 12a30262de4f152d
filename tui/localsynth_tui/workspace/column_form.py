"""Converts one column of the schema to the texts of a form, and back to values for localsynth.toml."""

import csv
import datetime as dt
from typing import Any, get_args

from localsynth.errors import ConfigError
from localsynth.schema.columns import Category, Column, Date, DateTime, Derived, Integer, Number, Surrogate, Text
from localsynth_tui.text.command_line import comma_separated
from localsynth_tui.text.formatting import plain
from localsynth_tui.workspace.config_file import KINDS

FORM_FIELDS: dict[str, tuple[str, str]] = {
    "min": ("Min", "measured"),
    "max": ("Max", "measured"),
    "decimals": ("Decimals", "2"),
    "values": ("Values", "measured; or: ham, spam"),
    "descriptions": ("Value descriptions", "e.g. J45 = asthma, M = male"),
    "max_tokens": ("Max tokens", "128"),
    "formula": ("Formula", "net + tax"),
    "format": ("Format", "as usual"),
    "missing": ("No value", "as in data.missing; or: ?, -999"),
    "other": ("named", "none; measured: other"),
    "step": ("Step", "found with range"),
    "common": ("Frequent values", "found with range; or: 0, -999"),
}
"""Inputs of the form: (label, placeholder)."""

_INPUTS = {
    "category": ("values", "descriptions", "missing", "other"),
    "integer": ("min", "max", "format", "missing", "step", "common"),
    "number": ("min", "max", "decimals", "format", "missing", "step", "common"),
    "boolean": ("format", "missing"),
    "date": ("min", "max", "format", "missing", "common"),
    "datetime": ("min", "max", "format", "missing", "step", "common"),
    "time": ("format", "missing"),
    "identifier": ("format",),
    "text": ("max_tokens", "missing"),
    "derived": ("formula", "decimals", "format"),
}


def fields_shown(kind: str) -> tuple[str, ...]:
    """The inputs of a kind."""
    return _INPUTS.get(kind, ())


_OUTSIDE = {
    "other": "become one value",
    "clamp": "become the nearest bound",
    "null": "become empty",
    "drop": "drop the row",
}


def outside_choices(kind: str) -> list[tuple[str, str]]:
    """(label, value) of what can happen to values outside the list or range, the default first; none for other kinds."""
    field = KINDS[kind].model_fields.get("outside")
    return [] if field is None else [(_OUTSIDE[value], value) for value in get_args(field.annotation)]


def values_of(column: Column) -> dict[str, str]:
    """The texts of a column's inputs; "" for what is left open."""
    shown = {}
    for field in fields_shown(column.kind):
        value = getattr(column, field)
        if value is None:
            shown[field] = ""
        elif isinstance(value, dict):
            shown[field] = comma_separated(f"{one} = {words}" for one, words in value.items())
        else:
            shown[field] = comma_separated(map(_shown, value)) if isinstance(value, list) else _shown(value)
    return shown


def _shown(value: Any) -> str:
    if isinstance(value, dt.date):
        return value.isoformat()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _read(kind: str, field: str, text: str) -> Any:
    if field in ("other", "formula", "format"):
        return text
    if field in ("values", "missing"):
        return next(csv.reader([text], skipinitialspace=True))
    if field == "descriptions":
        pairs = [part.partition("=") for part in next(csv.reader([text], skipinitialspace=True))]
        if not all(sign for _, sign, _ in pairs):
            raise ValueError
        return {value.strip(): words.strip() for value, _, words in pairs}
    if field == "common":
        return [_read(kind, "", part) for part in next(csv.reader([text], skipinitialspace=True))]
    if field in ("decimals", "max_tokens") or kind == "integer" or (kind == "datetime" and field == "step"):
        return int(text.replace(",", ""))
    if kind == "number":
        return float(text.replace(",", ""))
    return dt.date.fromisoformat(text) if kind == "date" else dt.datetime.fromisoformat(text)


_EXAMPLES = {
    "integer": "a whole number",
    "number": "a number, such as 12.5",
    "date": "a day, such as 2026-01-31",
    "datetime": "a moment, such as 2026-01-31T08:00:00",
    "decimals": "a whole number",
    "max_tokens": "a whole number",
    "descriptions": "values and their descriptions, such as: J45 = asthma, I10 = high blood pressure",
}
"""What to enter, by input or by kind."""


def changes_of(kind: str, texts: dict[str, str]) -> dict[str, Any]:
    """The values of a form's texts, with None for what is left open. Raises ConfigError naming the field."""
    changes: dict[str, Any] = {}
    for field in fields_shown(kind):
        text = texts.get(field, "").strip()
        try:
            changes[field] = _read(kind, field, text) if text else None
        except (ValueError, StopIteration):
            example = _EXAMPLES.get(kind, "a list, such as: ham, spam")
            expected = _EXAMPLES.get(field) or (f"values with commas between, each {example}" if field == "common" else example)
            expected = "seconds, such as 3600" if (kind, field) == ("datetime", "step") else expected
            raise ConfigError(f"{FORM_FIELDS[field][0]}: enter {expected}.") from None
    return changes


def range_text(column: Column) -> str:
    """The values a column may take, and the format they are written in, on one line."""
    form = getattr(column, "format", None)
    return _values_text(column) + ("" if form is None else f", as {plain(form)}")


def _values_text(column: Column) -> str:
    if isinstance(column, Category):
        return plain(", ".join(column.values)) if column.values else "list to be measured"
    if isinstance(column, Integer | Number | Date | DateTime):
        if column.min is None and column.max is None:
            return "range to be measured"
        low, high = ("?" if bound is None else plain(bound).removeprefix("1970-01-01 ") for bound in (column.min, column.max))
        return f"{low} … {high}"
    if isinstance(column, Text):
        return f"up to {column.max_tokens} tokens"
    if isinstance(column, Surrogate):
        return f"not learned: fake {column.of}"
    if isinstance(column, Derived):
        return f"not learned: {plain(column.formula)}"
    return "yes or no" if column.kind == "boolean" else "not learned: new numbers"
