"""The plot of a curve."""

import asyncio

from textual.app import App
from textual_plot import PlotWidget

from localsynth_tui.jobs.run_state import Curve
from localsynth_tui.widgets.curve import CurvePlot


def test_a_curve_that_comes_before_the_plot_has_its_parts_is_drawn() -> None:
    async def scenario() -> None:
        app: App[None] = App()
        async with app.run_test() as pilot:
            curve = Curve([(1.0, 3.0), (2.0, 2.0)])
            plot = CurvePlot("Loss", id="loss")
            mounted = app.mount(plot)
            plot.draw(curve, now=True)
            await mounted
            await pilot.pause()
            assert plot.query_one(PlotWidget).display

    asyncio.run(scenario())
