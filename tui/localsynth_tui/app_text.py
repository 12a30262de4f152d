"""Texts of the app itself: the status line, the list of keys, and the report of a bug."""

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from textual.binding import Binding

from localsynth_tui.jobs.run_state import RunState
from localsynth_tui.preferences import Preferences


def status_line(workspace: Path | None, state: RunState | None) -> str:
    """The workspace and its running job. The job comes first, since a path may be longer than the line."""
    if workspace is None:
        return " no workspace open"
    if state is None or state.outcome is not None:
        return f" {workspace}"
    stage = state.running
    name = f": {stage.name}" if stage is not None and stage.name != state.verb else ""
    progress = f" {stage.step:,}/{stage.steps:,}" if stage is not None and stage.step is not None and stage.steps else ""
    return f" ▶ {state.verb}{name}{progress}   {workspace}"


def keys_text(bindings: Iterable[Binding], display: Callable[[Binding], str]) -> str:
    """The keys of a screen, one action a line; `display` gives a binding's key as shown."""
    lines = ['Keys (in brackets the name by which tui.json can change it: {"keymap": {"help": "f2"}})', ""]
    actions: dict[str, tuple[list[str], str]] = {}
    for binding in bindings:
        if binding.id and binding.description:
            actions.setdefault(binding.id, ([], binding.description))[0].append(display(binding))
    lines += [f"  {', '.join(dict.fromkeys(keys)):<16} {text}  [{name}]" for name, (keys, text) in actions.items()]
    return "\n".join([*lines, "", f"  Settings: {Preferences.path()}"])


def bug_text(error: BaseException | None) -> str:
    """Where a bug is, without the error's own text, which may quote a private value."""
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]] if error else []
    return (
        f"A bug in the terminal UI: {type(error).__name__} at {' > '.join(places)}. Please report this line.\n"
        "A running job continues: start localsynth again to see it."
    )
