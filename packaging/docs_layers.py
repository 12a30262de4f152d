"""Writes the picture of the layers in CONTRIBUTING.md from the import contract in pyproject.toml.

    python packaging/docs_layers.py

A layer is a line. The sentence beside a room is the first of its docstring.
"""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- layers: written by packaging/docs_layers.py -->\n", "<!-- end of layers -->\n"


def layers() -> list[list[str]]:
    """The rooms of each layer, from the top down, as the contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def path_of(room: str) -> Path:
    """The package's `__init__.py`, or the module's file."""
    top, *rest = room.split(".")
    place = {"localsynth": ROOT, "localsynth_tui": ROOT / "tui", "localsynth_models": ROOT / "models"}[top]
    path = place.joinpath(top, *rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def sentence(room: str) -> str:
    """The first sentence of the room's docstring."""
    text = ast.get_docstring(ast.parse(path_of(room).read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def label(room: str) -> str:
    """What the room is called in the tree: `pipeline/`, `worker.py`, `tui/`."""
    if not room.startswith("localsynth."):
        return room.removeprefix("localsynth_") + "/"
    name = room.removeprefix("localsynth.")
    return name + ("/" if path_of(room).name == "__init__.py" else ".py")


def picture() -> str:
    """The layers as boxes one above the other, and below them what each room is for."""
    floors = ["   ".join(label(room) for room in layer) for layer in layers()]
    width = max(map(len, floors)) + 4
    rule = "+" + "-" * width + "+"
    drawn = [rule] + [line for floor in floors for line in (f"|{floor:^{width}}|", rule)]
    rooms = [f"- `{label(room)}` {sentence(room)}." for layer in layers() for room in layer]
    return "\n".join(["```", *drawn, "```", "", *rooms]) + "\n"


def written(text: str) -> str:
    """`text` of CONTRIBUTING.md with the picture as the contract has it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{picture()}\n{END}{after}"


if __name__ == "__main__":
    TARGET.write_text(written(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
