"""Draw the plots of the documentation as SVG from the CSV files beside this script.

    python docs/plots/make_plots.py     writes docs/images/plots/*.svg

Only the standard library is used. Plots have a white background, so that they are readable on a dark page too.
Series differ in shape as well as in colour.
"""

import csv
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "images" / "plots"

COLOURS = "#0072B2", "#D55E00", "#6A3D9A"
GRID, INK = "#dddddd", "#222222"
Point = tuple[float, float]


def read(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file beside this script."""
    with (HERE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def text(x: float, y: float, content: str, anchor: str = "middle", colour: str = INK, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{extra}>{escape(content)}</text>'


def mark(kind: int, x: float, y: float) -> str:
    """A data point: a filled disc, an empty diamond or a cross."""
    colour = COLOURS[kind]
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    if kind == 1:
        return f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="white" stroke="{colour}" stroke-width="2"/>'
    return f'<path d="M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9" stroke="{colour}" stroke-width="2.2" fill="none"/>'


class Panel:
    """One pair of axes inside a figure. Data coordinates are mapped linearly or, with `log`, by their logarithm."""

    def __init__(
        self,
        x: Sequence[float],
        y: Sequence[float],
        labels: tuple[str, str],
        *,
        left: float = 60,
        width: float = 380,
        log: bool = False,
    ) -> None:
        """`x` and `y` are the tick values; the first and the last are the ends of the axis."""
        self.left, self.right, self.top, self.bottom = left, left + width, 40.0, 260.0
        self.scale: Callable[[float], float] = math.log if log else float
        self.x, self.y = (x[0], x[-1]), (y[0], y[-1])
        self.parts: list[str] = []
        for value in x:
            at = self.across(value)
            self.parts.append(f'<path d="M{at:.1f} {self.top}V{self.bottom}" stroke="{GRID}"/>')
            self.parts.append(text(at, self.bottom + 18, f"{value:g}"))
        for value in y:
            at = self.up(value)
            self.parts.append(f'<path d="M{self.left} {at:.1f}H{self.right}" stroke="{GRID}"/>')
            self.parts.append(text(self.left - 8, at + 4, f"{value:g}", "end"))
        middle = (self.top + self.bottom) / 2
        self.parts.append(text((self.left + self.right) / 2, self.bottom + 40, labels[0]))
        turn = f' transform="rotate(-90 {self.left - 42} {middle})"'
        self.parts.append(text(self.left - 42, middle, labels[1], extra=turn))

    def _share(self, value: float, ends: tuple[float, float]) -> float:
        low, high = self.scale(ends[0]), self.scale(ends[1])
        return (self.scale(value) - low) / (high - low)

    def across(self, value: float) -> float:
        return self.left + (self.right - self.left) * self._share(value, self.x)

    def up(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self._share(value, self.y)

    def points(self, kind: int, points: Sequence[Point], *, joined: bool = True) -> None:
        """Data points; `joined` by a line through the mean of those with the same x."""
        if joined:
            places = sorted({x for x, _ in points})
            means = [[y for at, y in points if at == x] for x in places]
            path = "L".join(f"{self.across(x):.1f} {self.up(sum(ys) / len(ys)):.1f}" for x, ys in zip(places, means, strict=True))
            dashes = "" if kind == 0 else ' stroke-dasharray="6 4"'
            self.parts.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"{dashes}/>')
        self.parts += [mark(kind, self.across(x), self.up(y)) for x, y in points]

    def line(self, start: Point, end: Point, label: str, *, anchor: str, at: Point) -> None:
        """A dotted reference line with its label at `at` (data coordinates)."""
        x1, y1, x2, y2 = self.across(start[0]), self.up(start[1]), self.across(end[0]), self.up(end[1])
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#555555" stroke-dasharray="2 3"/>')
        self.parts.append(text(self.across(at[0]), self.up(at[1]), label, anchor, "#555555"))

    def legend(self, names: Sequence[str], x: float, y: float) -> None:
        """A legend whose first entry stands at (`x`, `y`) in pixels from the panel's upper left corner."""
        for kind, name in enumerate(names):
            at = self.top + y + 20 * kind
            self.parts.append(mark(kind, self.left + x, at - 4))
            self.parts.append(text(self.left + x + 14, at, name, "start"))


def save(name: str, title: str, width: float, height: float, parts: Sequence[str]) -> None:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        f' font-family="system-ui, sans-serif" font-size="13" role="img">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>\n'
        + text(width / 2, 22, title, extra=' font-weight="bold"')
        + "\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )
    (TARGET / f"{name}.svg").write_text(svg, encoding="utf-8")


def token_counts() -> None:
    rows = read("token_counts")
    panel = Panel((0, 4, 12, 20, 30), (0.75, 0.8, 0.85, 0.9, 0.95), ("epochs", "TSTR F1"))
    for kind, name in enumerate(("yes", "no")):
        panel.points(kind, [(float(row["epochs"]), float(row["tstr_f1"])) for row in rows if row["token_counts"] == name])
    panel.line((0, 0.949), (30, 0.949), "trained on originals: 0.949", anchor="end", at=(29.5, 0.936))
    panel.legend(("with token counts", "without token counts"), 205, 185)
    save("token_counts", "Text messages, ε = 8: TSTR F1 by epochs", 470, 312, panel.parts)


def layers() -> None:
    rows = read("layers")
    panel = Panel((0, 1, 2, 3), (14, 15, 16, 17, 18, 19), ("noise multiplier", "held-out perplexity"))
    for kind, name in enumerate(("all seven", "v and down")):
        panel.points(kind, [(float(row["noise_multiplier"]), float(row["perplexity"])) for row in rows if row["layers"] == name])
    panel.line((1, 14), (1, 19), "preset border", anchor="start", at=(1.03, 14.15))
    panel.legend(("all seven layers", "v and down only"), 225, 170)
    save("layers", "500 bank questions, 4 epochs: which layers get an adapter", 470, 312, panel.parts)


def guidance() -> None:
    rows, parts = read("guidance"), list[str]()
    wanted = (("tstr_f1", "TSTR F1", (0.7, 0.75, 0.8, 0.85)), ("detection_auc", "detection AUC", (0.7, 0.75, 0.8, 0.85)))
    for number, (column, label, ticks) in enumerate(wanted):
        panel = Panel((0, 0.2, 0.4, 0.6), ticks, ("guidance γ", label), left=60 + 360 * number, width=280)
        for kind, epochs in enumerate(("4", "12")):
            chosen = [row for row in rows if row["epochs"] == epochs and row[column]]
            panel.points(kind, [(float(row["guidance"]), float(row[column])) for row in chosen])
        panel.legend(("4 epochs, 2,000 rows", "12 epochs, 4,574 rows"), 115, 180 if number == 0 else 22)
        parts += panel.parts
    save("guidance", "Text messages, ε = 8: guidance helps a short training only", 730, 312, parts)


def throughput() -> None:
    rows, left, room, top = read("throughput"), 270.0, 370.0, 74.0
    names = {"dp": "DP", "plain": "plain LoRA", "ghost": "DP by ghost clipping"}

    def across(value: float) -> float:
        return left + room * math.log10(value / 10) / math.log10(100_000 / 10)

    height, parts = top + 62 * len(rows), []
    for value in (10, 100, 1_000, 10_000, 100_000):
        parts.append(f'<path d="M{across(value):.1f} {top - 6}V{height}" stroke="{GRID}"/>')
        parts.append(text(across(value), height + 18, f"{value:,}"))
    parts.append(text(left + room / 2, height + 40, "tokens a second (logarithmic)"))
    for number, row in enumerate(rows):
        at = top + 62 * number
        parts.append(text(left - 10, at + 28, row["machine"], "end"))
        for kind, key in enumerate(names):
            if row[key]:
                y, end = at + 16 * kind, across(float(row[key]))
                fill = "white" if kind == 1 else COLOURS[kind]
                parts.append(
                    f'<rect x="{left}" y="{y:.1f}" width="{end - left:.1f}" height="13" fill="{fill}" stroke="{COLOURS[kind]}"/>'
                )
                parts.append(text(end + 5, y + 11, f"{int(row[key]):,}", "start"))
    for kind, name in enumerate(names.values()):
        x = left + 135 * kind - 90
        fill = "white" if kind == 1 else COLOURS[kind]
        parts.append(f'<rect x="{x}" y="38" width="22" height="12" fill="{fill}" stroke="{COLOURS[kind]}"/>')
        parts.append(text(x + 29, 49, name, "start"))
    save("throughput", "Training throughput, SmolLM2-135M, adapters on all seven layers", 720, height + 52, parts)


def memory() -> None:
    def gib(row: dict[str, str], column: str) -> float:
        return float(row[column]) * (1e9 / 2**30 if row["unit"] == "GB" else 1 / 1024)

    rows = read("memory")
    ticks = (0.5, 1, 2, 4, 8, 16)
    panel = Panel(ticks, ticks, ("measured, GiB", "estimated, GiB"), log=True, width=300)
    panel.line((0.5, 0.5), (16, 16), "equal", anchor="start", at=(6.2, 4.6))
    kinds: tuple[Callable[[dict[str, str]], bool], ...] = (
        lambda row: row["device"] == "CPU",
        lambda row: row["device"] != "CPU" and row["model"] != "8B",
        lambda row: row["model"] == "8B",
    )
    for kind, belongs in enumerate(kinds):
        panel.points(kind, [(gib(row, "measured"), gib(row, "estimated")) for row in rows if belongs(row)], joined=False)
    panel.legend(("SmolLM2-135M, CPU", "SmolLM2-135M, H100", "8B in NF4, H100"), 18, 22)
    save("memory", "Peak memory of training", 390, 312, panel.parts)


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    for plot in (token_counts, layers, guidance, throughput, memory):
        plot()
