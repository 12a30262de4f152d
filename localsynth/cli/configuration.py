"""The commands that read and change a workspace's `localsynth.toml`."""

import json
from typing import Annotated, Any

import typer

from localsynth.cli.options import Workspace
from localsynth.cli.output import command

app = typer.Typer(help="Read and change the configuration of a workspace.", rich_markup_mode=None)

Key = Annotated[str, typer.Argument(metavar="KEY", help="section.key, as privacy.epsilon.")]


def _text(setting: dict[str, Any]) -> str:
    value = setting["value"]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@command(app, example="localsynth config get visits privacy.epsilon", show=_text)
def get(workspace: Workspace, key: Key) -> dict[str, Any]:
    """Show the value of a key: that in localsynth.toml, or the default."""
    from localsynth.config import load_config, value_of
    from localsynth.workspace.paths import Workspace as Directory

    return {"key": key, "value": value_of(load_config(Directory.open(workspace).config_path), key)}


def _set_text(setting: dict[str, Any]) -> str:
    return f"{setting['key']}: {_text(setting)}"


@command(app, name="set", example="localsynth config set visits privacy.epsilon 2", show=_set_text)
def set_value(
    workspace: Workspace,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The new value, as after --set KEY=.")],
) -> dict[str, Any]:
    """Write a value into localsynth.toml, if the configuration is then valid. Its comments stay."""
    from localsynth.config import load_config, parse_config, read_value, value_of, with_settings
    from localsynth.system.files import write_file
    from localsynth.workspace.paths import Workspace as Directory

    path = Directory.open(workspace).config_path
    load_config(path)
    text = with_settings(path.read_text(encoding="utf-8"), {key: read_value(value)})
    changed = parse_config(text, str(path))
    write_file(path, text)
    return {"key": key, "value": value_of(changed, key)}
