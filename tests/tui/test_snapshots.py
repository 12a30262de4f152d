"""Snapshots of the screens at 80x24, as text.

LOCALSYNTH_UPDATE_SNAPSHOTS=1 writes them again. Layouts differ between versions of Textual,
so snapshots are compared under the version that constraints.txt pins.
"""

import html
import os
import re
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from localsynth_tui.jobs.run_state import RunState
from tests.helpers.tui.driving import drive, until
from tests.helpers.tui.scripted_run import whole_run

SNAPSHOTS = Path(__file__).with_name("snapshots")
CONSTRAINTS = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
PINNED = re.search(r"^textual==(\S+)$", CONSTRAINTS, re.MULTILINE)[1]

pytestmark = pytest.mark.skipif(version("textual") != PINNED, reason=f"the snapshots are of Textual {PINNED}")


def snapshot(app):
    """The text of the screen's SVG, line by line."""
    svg = app.export_screenshot()
    lines = {}
    for x, y, text in re.findall(
        r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg.split("<g transform")[-1]
    ):
        lines.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    width = 12.2
    shown = []
    for _, parts in sorted(lines.items()):
        line = ""
        for x, text in sorted(parts):
            line = line.ljust(round(x / width)) + text
        shown.append(line.rstrip())
    return "\n".join(shown) + "\n"


def scripted(app):
    app.run_state = RunState("run", counts_texts=True, report=True)
    for event in whole_run(10)[:9]:
        app.run_state.apply(event)


SCREENS = {
    "data": ("to be measured", None),
    "run": ("running", scripted),
    "synthetic": ("Rows 1 to 200", None),
    "report": ("✓ Valid.", None),
}


@pytest.mark.parametrize("step", SCREENS)
def test_screen_matches_its_snapshot(finished, checked, step):
    expected, prepare = SCREENS[step]
    checked |= {"not_covered": ["Much."], "findings": [{"name": "signature", "status": "ok", "text": "It is signed."}]}
    path, update = SNAPSHOTS / f"{step}.txt", bool(os.environ.get("LOCALSYNTH_UPDATE_SNAPSHOTS"))
    wanted = None if update else path.read_text(encoding="utf-8")
    seen = []

    async def scenario(app, pilot):
        if prepare is not None:
            prepare(app)
        await app.action_go(step)
        await until(pilot, lambda: expected in snapshot(app))
        # Until nothing changes any more; a busy machine may need longer to reach the snapshot.
        deadline = time.monotonic() + 20
        while not seen or seen[-1] != snapshot(app) or (not update and seen[-1] != wanted and time.monotonic() < deadline):
            seen.append(snapshot(app))
            await pilot.pause(0.3)

    drive(scenario, Path("tickets"))
    shown = seen[-1]
    assert len(shown.splitlines()) <= 24 and max(map(len, shown.splitlines())) <= 80
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")
