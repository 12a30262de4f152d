"""Small plots as inline SVG: no script, no file, no colour that says what the shape does not say too.

Every text that comes from a table or a schema is escaped here.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from markupsafe import Markup

_WIDTH = 330


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _short(name: str, most: int) -> str:
    return escape(name if len(name) <= most else f"{name[: most - 1]}…")


def _upright(figures: dict[str, Any], sides: list[str], title: str) -> Markup:
    """Grouped bars along an axis, for ordered values."""
    names, height = figures["bars"], 84.0
    most = max([share for side in sides for share in figures[side]] + [1e-9])
    step = _WIDTH / max(len(names), 1)
    width = step * 0.86 / len(sides)
    parts = []
    for i, side in enumerate(sides):
        for j, share in enumerate(figures[side]):
            tall = height * share / most
            parts.append(
                f'<rect class="{side}" x="{j * step + step * 0.07 + i * width:.1f}" y="{height + 2 - tall:.1f}" '
                f'width="{width:.1f}" height="{tall:.1f}"/>'
            )
    parts.append(f'<line class="axis" x1="0" y1="{height + 2:g}" x2="{_WIDTH}" y2="{height + 2:g}"/>')
    if len(names) <= 8:
        marks = [(j * step + step / 2, "middle", name) for j, name in enumerate(names)]
    else:
        # Room for the two ends of the axis only.
        low, high = figures["ends"]
        marks = [(0.0, "start", low), (float(_WIDTH), "end", high)]
    for x, anchor, name in marks:
        parts.append(f'<text x="{x:.1f}" y="{height + 14:g}" text-anchor="{anchor}">{_short(name, 14)}</text>')
    return _svg(_WIDTH, height + 18, title, parts)


def _lying(figures: dict[str, Any], sides: list[str], title: str) -> Markup:
    """Bars under one another with their names: for labels."""
    names = figures["bars"]
    most = max([share for side in sides for share in figures[side]] + [1e-9])
    start, thick = 118.0, 6.5
    row = max(thick * len(sides), 8.0) + 4.5
    room = _WIDTH - start - 38
    parts = []
    for j, name in enumerate(names):
        top = j * row
        parts.append(f'<text x="{start - 5:g}" y="{top + row / 2 + 2:.1f}" text-anchor="end">{_short(name, 20)}</text>')
        for i, side in enumerate(sides):
            long, y = room * figures[side][j] / most, top + (row - thick * len(sides)) / 2 + i * thick
            parts.append(f'<rect class="{side}" x="{start:g}" y="{y:.1f}" width="{long:.1f}" height="{thick - 1:g}"/>')
        end = start + room * max(figures[side][j] for side in sides) / most
        share = figures[sides[-1]][j]
        parts.append(f'<text x="{end + 4:.1f}" y="{top + row / 2 + 2:.1f}">{100 * share:.{0 if share >= 0.1 else 1}f} %</text>')
    return _svg(_WIDTH, max(row * len(names), 1), title, parts)


def bars_plot(figures: dict[str, Any], *, title: str) -> Markup:
    """The histogram of a column: `figures` as from `columns.histogram`, one side or both. The number is the synthetic share."""
    sides: list[str] = [side for side in ("original", "synthetic") if side in figures]
    return (_upright if "ends" in figures else _lying)(figures, sides, title)


_MARKS = {
    # Shapes differ as well as shades: filled disc, empty diamond, cross.
    "risk": lambda x, y: f'<circle class="risk" cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    "control": lambda x, y: f'<path class="control" d="M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>',
    "baseline": lambda x, y: f'<path class="baseline" d="M{x - 3.5:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7"/>',
}


def intervals_plot(rows: Sequence[dict[str, Any]], *, low: float, high: float, percent: bool, title: str) -> Markup:
    """Estimates with their intervals, a row each: {"name", "marks": [{"mark": risk|control|baseline, "value", "low", "high"}]}.

    `low` and `high` are the ends of the axis; what has no value is left out.
    """
    start, width = 225.0, 690.0
    room = width - start - 16

    def place(value: float) -> float:
        return start + room * (min(max(value, low), high) - low) / (high - low)

    parts, y = [], 6.0
    for row in rows:
        marks = [mark for mark in row["marks"] if mark["value"] is not None]
        middle = y + 11 * (len(marks) or len(row["marks"])) / 2 + 3.5
        parts.append(f'<text class="name" x="{start - 10:g}" y="{middle:.1f}" text-anchor="end">{_short(row["name"], 36)}</text>')
        if not marks:
            # Its name still takes a line.
            y += 11 * len(row["marks"])
        for mark in marks:
            y += 11
            if mark["low"] is not None and mark["high"] is not None:
                parts.append(
                    f'<line class="{mark["mark"]}" x1="{place(mark["low"]):.1f}" y1="{y - 3:.1f}" x2="{place(mark["high"]):.1f}" '
                    f'y2="{y - 3:.1f}"/>'
                )
            parts.append(_MARKS[mark["mark"]](place(mark["value"]), y - 3))
        y += 8
    grid = []
    for i in range(6):
        value = low + (high - low) * i / 5
        grid.append(f'<line class="grid" x1="{place(value):.1f}" y1="2" x2="{place(value):.1f}" y2="{y:.1f}"/>')
        label = f"{100 * value:.0f} %" if percent else f"{value:.2f}"
        grid.append(f'<text x="{place(value):.1f}" y="{y + 12:.1f}" text-anchor="middle">{label}</text>')
    return _svg(width, y + 18, title, [*grid, *parts])


def scatter_plot(points: Sequence[tuple[float, float, str]], *, title: str) -> Markup:
    """(original, synthetic, name) for each pair of columns, both from −1 to 1, with the line on which they are equal."""
    size, edge = 250.0, 34.0
    low = -1.0 if any(min(x, y) < -0.05 for x, y, _ in points) else 0.0
    room = size - edge - 8

    def across(value: float) -> float:
        return edge + room * (value - low) / (1 - low)

    def up(value: float) -> float:
        return size - edge - room * (value - low) / (1 - low)

    parts = [f'<line class="grid" x1="{across(low):g}" y1="{up(low):g}" x2="{across(1):g}" y2="{up(1):g}"/>']
    for value in (low, (low + 1) / 2, 1.0):
        parts.append(f'<text x="{across(value):.1f}" y="{size - edge + 12:g}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{edge - 4:g}" y="{up(value) + 3:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<path class="axis" d="M{edge:g} {up(1):g}V{up(low):g}H{across(1):g}" fill="none"/>')
    parts.append(f'<text x="{across((low + 1) / 2):.1f}" y="{size - 6:g}" text-anchor="middle">original</text>')
    middle = up((low + 1) / 2)
    parts.append(f'<text x="9" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 9 {middle:.1f})">synthetic</text>')
    for x, y, name in points:
        parts.append(f'<circle class="point" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"><title>{escape(name)}</title></circle>')
    return _svg(size, size, title, parts)
