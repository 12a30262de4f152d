"""A small line plot of one curve of a run."""

import time

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static
from textual_plot import HiResMode, PlotWidget

from localsynth_tui.jobs.run_state import Curve

_REDRAW_INTERVAL = 1.0
"""Seconds between two drawings: one takes about a tenth of a second."""
_MAX_POINTS = 150


class CurvePlot(Widget):
    """A title and the curve, or a line of text while there is nothing to draw."""

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(id=id)
        self.border_title = title
        self._drawn = 0
        self._at = 0.0
        self._early: Curve | None = None
        """What was to be drawn before the plot had its parts: the worker's events do not wait for them."""

    def compose(self) -> ComposeResult:
        yield PlotWidget(allow_pan_and_zoom=False)
        yield Static("(no data yet)", classes="empty")

    def on_mount(self) -> None:
        plot = self.query_one(PlotWidget)
        plot.margin_left, plot.margin_bottom, plot.margin_top = 7, 1, 0
        plot.can_focus = False
        plot.display = False
        if self._early is not None:
            self._draw(self._early)

    def draw(self, curve: Curve, now: bool = False) -> None:
        """Redraw the curve where it has changed, at most once a second unless `now`."""
        if not self.is_mounted:
            self._early = curve
        elif now or time.monotonic() - self._at >= _REDRAW_INTERVAL:
            self._draw(curve)

    def _draw(self, curve: Curve) -> None:
        points = curve.points
        if len(points) < 2 or len(points) == self._drawn:
            return
        self._drawn, self._at = len(points), time.monotonic()
        plot = self.query_one(PlotWidget)
        plot.display = True
        self.query_one(Static).display = False
        plot.clear()
        shown = points[:: max(1, len(points) // _MAX_POINTS)]
        xs, ys = zip(*shown, strict=True)
        plot.plot(xs, ys, line_style=self.app.current_theme.primary, hires_mode=HiResMode.BRAILLE)
        plot.set_ylimits(0 if min(ys) >= 0 else None, max(ys) * 1.1 or 1)
