"""Results as tables of HTML, which a notebook shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from html import escape
from typing import Any


def html_table(names: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """A table; None is an empty cell."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return "" if value is None else escape(str(value))


class Shown:
    """A record that a notebook shows as a table of its fields."""

    def _repr_html_(self) -> str:
        fields = ((name, value) for name, value in vars(self).items() if value not in (None, (), [], {}))
        return html_table((), ((name.replace("_", " "), _in_words(value)) for name, value in fields))


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_in_words(each)}" for key, each in value.items())
    if is_dataclass(value):
        return _in_words(vars(value))
    if isinstance(value, tuple | list):
        return "; ".join(map(_in_words, value))
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
