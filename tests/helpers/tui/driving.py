"""Drives the app by keys in Textual's pilot, and reads the screen."""

import asyncio
import time

from localsynth_tui.app import LocalsynthApp

__all__ = ["drive", "screen_text", "sees", "until"]


def drive(scenario, workspace=None, size=(80, 24)):
    """Run `scenario(app, pilot)` in the app."""

    async def main():
        app = LocalsynthApp(workspace)
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
