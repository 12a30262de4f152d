"""Events of the worker in a notebook or a script: a bar for each stage, and notes as lines."""

import sys
from importlib.util import find_spec
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from localsynth.events import Event
from localsynth.presentation import printable


class Progress:
    """A context that takes events.

    A note that depends on the original rows is printed on a terminal only: a notebook would keep it.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Without ipywidgets a notebook shows the bars as text, once they are full.
        widgets = None if find_spec("ipywidgets") else False
        self._bars = Bars(*columns, console=Console(stderr=True, force_jupyter=widgets))
        self._stages: dict[str, TaskID] = {}

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        kind = event["kind"]
        if kind == "progress" and event.get("steps"):
            name = f"{event['stage']}: {event['work']}" if "work" in event else event["stage"]
            if name not in self._stages:
                self._stages[name] = self._bars.add_task(name, total=event["steps"])
            self._bars.update(self._stages[name], completed=event["step"], total=event["steps"])
        elif kind in ("note", "warning"):
            private = event.get("private") if sys.stderr.isatty() else None
            if text := event.get("text") or dict(private or {}).get("text"):
                self._bars.console.print(escape(printable(f"{kind}: {text}")), highlight=False)
