"""Drives the app by keys in Textual's pilot, and reads the screen."""

import asyncio
import time
from pathlib import Path

from localsynth_tui import app as app_module
from localsynth_tui.app import LocalsynthApp


class _AppOnStep(LocalsynthApp):
    """Opens its workspace on the screen of a step, and not on that of its next one."""

    CSS_PATH = Path(app_module.__file__).with_name("app.tcss")

    def __init__(self, workspace, step):
        super().__init__(workspace)
        self._first_step = step

    async def action_go(self, step):
        first, self._first_step = self._first_step, None
        await super().action_go(first or step)


def drive(scenario, workspace=None, size=(80, 24), step=None):
    """Run `scenario(app, pilot)` in the app; `step` is the first screen of a workspace."""

    async def main():
        app = _AppOnStep(workspace, step)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await scenario(app, pilot)

    asyncio.run(main())


def screen_text(app):
    """The text on the screen."""
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips())


async def until(pilot, condition):
    """Wait until `condition()` is true; up to a minute, since the machine may be busy."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out:\n" + screen_text(pilot.app)
        await pilot.pause(0.05)


async def sees(pilot, text):
    """Wait until the screen shows `text`."""
    await until(pilot, lambda: text in screen_text(pilot.app))
