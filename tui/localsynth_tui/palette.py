"""The command palette: every action of the screen and of the app, by name."""

from collections.abc import Iterator
from typing import Any

from textual.app import App, SystemCommand
from textual.screen import Screen

from localsynth_tui.themes import THEMES

__all__ = ["palette_commands"]


def palette_commands(app: App[None], screen: Screen[Any]) -> Iterator[SystemCommand]:
    """The commands of the palette on `screen`."""
    listed: set[str] = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.id and binding.description and binding.id not in listed:
            listed.add(binding.id)

            async def run(action: str = binding.action, node: Any = active.node) -> None:
                await app.run_action(action, default_namespace=node)

            yield SystemCommand(binding.description, f"Key: {app.get_key_display(binding)}", run)
    if "report.erase" not in listed:

        async def erase() -> None:
            await app.run_action("app.erase")

        yield SystemCommand("Erase the private side …", "Shows what is erased and what stays, then asks", erase)
    for theme in THEMES:

        def change(name: str = theme.name) -> None:
            app.theme = name

        yield SystemCommand(f"Theme: {theme.name.removeprefix('localsynth-')}", "Change the colours", change)
    yield SystemCommand("Theme: others", "Choose among all themes", app.action_change_theme)
