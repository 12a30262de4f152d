"""Fills a table, with columns as wide as their content."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.widgets import DataTable


def fill(
    table: "DataTable[Text]",
    names: Sequence[Text],
    rows: Sequence[Sequence[Text]],
    keys: Sequence[str] | None = None,
    first_number: int | None = None,
) -> None:
    """Replace all columns and rows; the cursor stays in its row.

    `first_number` numbers the rows from there. Column widths are set here: the table itself
    keeps cells that it painted before it had measured them, cut to their first word.
    """
    row = table.cursor_row
    table.clear(columns=True)
    for index, name in enumerate(names):
        table.add_column(name, width=max(cell_len(text.plain) for text in (name, *(cells[index] for cells in rows))))
    for index, cells in enumerate(rows):
        label = None if first_number is None else str(first_number + index)
        table.add_row(*cells, key=keys[index] if keys is not None else None, label=label)
    table.move_cursor(row=min(row, len(rows) - 1) if rows else 0, animate=False)
