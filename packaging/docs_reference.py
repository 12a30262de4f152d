"""Writes docs/reference.md from the code: every command and option, every configuration key, every exit code.

    python packaging/docs_reference.py           writes it, and the same as a man page, docs/localsynth.1
    python packaging/docs_reference.py --check   exits with 1 where they are not what the code says

What is read: the parser of the command line, the models of the configuration, and the docstrings beside their fields.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import localsynth
from localsynth.cli.main import app
from localsynth.config import Config
from localsynth.errors import EXIT_CODES, ExitCode
from localsynth.schema import columns

DOCS = Path(__file__).parent.parent / "docs"
TARGET, MAN_PAGE = DOCS / "reference.md", DOCS / "localsynth.1"

HEAD = """\
# Reference

Generated from the code by `make docs`; do not edit.
Terms are in the [glossary](glossary.md), the files of a workspace in [files.md](files.md).

Results go to stdout, progress and messages to stderr.
Every command has `--help` and, except `tui`, `--json`, which prints the result as JSON.
`localsynth --version` prints the version.
`localsynth --install-completion` makes the shell complete commands and options.
`man localsynth` shows this page, where the shell's MANPATH has `share/man` of the environment.
With `NO_COLOR=1` the terminal UI and the progress in Python have no colours; the commands never have.
"""

SECTIONS: dict[str, Any] = {name: field.annotation for name, field in Config.model_fields.items() if field.alias is None}
COLUMN_KINDS: tuple[type[BaseModel], ...] = get_args(get_args(columns.Column)[0])
BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


COMMAND_GROUPS = {
    "Make rows": ("init", "plan", "rehearse", "run", "ingest", "train", "export", "count-texts", "sample", "demo"),
    "Look at rows": ("query", "export-data", "evaluate", "tui"),
    "Configure": ("config get", "config set"),
    "Check": ("verify", "audit", "doctor"),
    "Protect and clean up": ("passphrase", "erase"),
    "Base models": ("models list", "models fetch", "models add", "models verify"),
    "Benchmarks": ("bench sample", "bench train", "bench table"),
}
"""By task; every command is in one."""


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and parser of every command, those of groups with the group's name before."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def cell(text: object) -> str:
    """Text for a cell of a table: one line, with its bars escaped."""
    return " ".join(str(text).split()).replace("|", "\\|")


def value_word(parameter: Any) -> str:
    """What a help text calls the value of an option: PATH, INT, TEXT."""
    word: str = parameter.bare_type().strip("<>").removeprefix("list[").removesuffix("]").upper()
    return {"STR": "TEXT", "INT": "N"}.get(word, word)


def command_text(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = " ".join(p.metavar or p.name.upper() for p in arguments)
    lines = [
        f"#### localsynth {name}",
        "",
        " ".join(command.help.split()),
        "",
        "```",
        f"localsynth {name} {words} [OPTIONS]".strip(),
    ]
    lines += [
        command.epilog.removeprefix("Example: "),
        "```",
        "",
        "| argument or option | description | default |",
        "|---|---|---|",
    ]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        label = parameter.metavar or parameter.name.upper()
        if parameter.param_type_name == "option":
            flag = parameter.is_flag
            label = ", ".join([*parameter.opts, *parameter.secondary_opts])
            label += "" if flag else f" {parameter.metavar or value_word(parameter)}"
        default = parameter.default
        shown = "required" if parameter.required else "" if default in (None, False) or callable(default) else f"`{default}`"
        lines.append(f"| `{cell(label)}` | {cell(parameter.help or '')} | {shown} |")
    return "\n".join(lines) + "\n"


def notes(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """For each field a class writes itself: its type as written, and the docstring below it."""
    (tree,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, tuple[str, str]] = {}
    for here, after in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name):
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            found[here.target.id] = (ast.unparse(here.annotation), str(said))
    return found


def inherited_notes(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """As `notes`, with those of base classes; a field that is redefined without a docstring keeps its base's."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            for name, (kind, text) in notes(base).items():
                found[name] = (kind, text or found.get(name, ("", ""))[1])
    return found


def default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "not set"
    shown = str(value).lower() if isinstance(value, bool) else str(value) if not isinstance(value, str | list) else None
    return f"`{shown}`" if shown else f"`{value!r}`".replace("'", '"')


def spoken(text: str) -> str:
    """A docstring in the words of the file, which has no None: there a key is not set."""
    return re.sub(r"; None:", "; not set:", text).replace("None:", "Not set:")


def field_rows(model: type[BaseModel], leave_out: tuple[str, ...] = ()) -> list[str]:
    said = inherited_notes(model)
    lines = ["| key | values | default | description |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        kind, text = said[name]
        for written, meant in {"Outside": "Literal['clamp', 'null', 'drop']", "dt.": ""}.items():
            kind = kind.replace(written, meant)
        kind = kind.replace("Literal[", "").replace("'],", "',").replace("']", "'").replace("'", '"').removesuffix(" | None")
        limits = [BOUNDS[key].format(getattr(m, key)) for m in field.metadata for key in BOUNDS if hasattr(m, key)]
        values = ", ".join([kind, *(limit.replace(str(2**62), "2^62") for limit in limits)])
        lines.append(f"| `{field.alias or name}` | {cell(values)} | {cell(default_text(field))} | {cell(spoken(text))} |")
    return lines


def configuration_text() -> str:
    lines = [
        "## localsynth.toml",
        "",
        "The command line takes precedence over the file, the file over the defaults: `--set privacy.epsilon=8`.",
        "An unknown key is an error that names the nearest known one.",
    ]
    for name, model in SECTIONS.items():
        lines += ["", f"### [{name}]", "", inspect.getdoc(model) or "", "", *field_rows(model)]
    lines += ["", "### [schema]", "", inspect.getdoc(columns.Schema) or "", "", *field_rows(columns.Schema, ("columns",))]
    lines += ["", "### [[schema.columns]]", "", "One for each column: `name`, `kind`, and the keys of that kind."]
    for kind in COLUMN_KINDS:
        word = kind.model_fields["kind"].default
        lines += ["", f'#### kind = "{word}"', "", inspect.getdoc(kind) or ""]
        lines += ["", *field_rows(kind, ("name", "kind", "measured"))]
    return "\n".join(lines) + "\n"


def python_text() -> str:
    """The public names of the package, with their signatures and docstrings."""
    lines = ["## Python", "", "`import localsynth as ls`: [how to](howto/python.md)."]
    for name in localsynth.__all__:
        thing = getattr(localsynth, name)
        lines += ["", f"### ls.{name}", "", *described(name, thing)]
        for part, member in vars(thing).items() if inspect.isclass(thing) else ():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if not part.startswith("_") and inspect.isfunction(function):
                lines += ["", f"#### {name}.{part}", "", *described(part, function, isinstance(member, property))]
    return "\n".join(lines) + "\n"


def described(name: str, thing: Any, is_property: bool = False) -> list[str]:
    """The signature of what is called, and the docstring, in which a line "name  what it is" is an item of a list."""
    texts = [inspect.getdoc(thing) or ""]
    if inspect.isclass(thing):
        if name != "Synthesizer":
            return listed(texts[0])
        texts.append(inspect.getdoc(thing.__init__) or "")
    signature = "" if is_property else str(inspect.signature(thing)).replace("(self, ", "(").replace("(self)", "()")
    signature = re.sub(r"\b(localsynth|pathlib|typing|collections)(\.[a-z_]+)*\.", "", signature)
    return ["```", name + signature, "```", "", *listed("\n\n".join(texts))]


def listed(text: str) -> list[str]:
    """The lines of a docstring as Markdown."""
    lines = re.sub(r"(?m)^(\w[\w, ]*?) {2,}(?=\S)", r"- `\1`: ", text)
    return re.sub(r"(?m)^(- .*)\n(?=[^-\n])", r"\1\n\n", lines).splitlines()


def exit_text() -> str:
    rows = [f"| {int(code)} | {EXIT_CODES[code]} |" for code in ExitCode]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *rows]) + "\n"


def reference() -> str:
    """The whole page. Raises ValueError where a command is in no group."""
    known, parts = dict(commands()), [HEAD, "## Commands\n"]
    for group, names in COMMAND_GROUPS.items():
        parts += [f"### {group}\n", *(command_text(name, known.pop(name)) for name in names)]
    if known:
        raise ValueError(f"COMMAND_GROUPS lacks {', '.join(known)}")
    return "\n".join([*parts, configuration_text(), python_text(), exit_text()])


def roff(text: str) -> str:
    """A line of Markdown as one of a man page."""
    plain = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text.replace("\\|", "|")).replace("\\", "\\e").replace("-", "\\-")
    marked = re.sub(r"`([^`]*)`|\*\*([^*]*)\*\*", lambda found: f"\\fB{found[1] or found[2] or ''}\\fR", plain)
    in_ascii = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", marked)
    return f"\\&{in_ascii}" if in_ascii.startswith((".", "'")) else in_ascii


def man_page(page: str) -> str:
    """The page as roff: headings, code, and each row of a table as a term with its description."""
    lines = ['.TH LOCALSYNTH 1 "" localsynth', ".SH NAME", "localsynth \\- synthetic tables under differential privacy"]
    is_code = False
    for line in page.splitlines():
        heading = re.match(r"(#+) (.*)", line)
        cells = [roff(each.strip()) for each in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.startswith("```"):
            is_code = not is_code
            lines.append(".nf" if is_code else ".fi")
        elif is_code or not (heading or cells):
            lines.append(roff(line) or ".PP")
        elif heading:
            lines.append(f".{'SH' if len(heading[1]) < 3 else 'SS'} {roff(heading[2])}")
        elif not set(line) <= set("|- ") and not line.startswith(("| argument", "| key", "| code")):
            # The description is the second cell, or the last of four.
            description = cells.pop(-1 if len(cells) > 3 else 1)
            lines += [".TP", cells[0], description, f"({'; '.join(filter(None, cells[1:]))})" if any(cells[1:]) else ""]
        if line.startswith("- "):
            lines.append(".br")
    return "\n".join(filter(None, lines)) + "\n"


def main() -> int:
    page = reference()
    written = {TARGET: page, MAN_PAGE: man_page(page)}
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in written.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for path in stale:
            print(f"{path} is not what the code says. Write it with: make docs", file=sys.stderr)
        return int(bool(stale))
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
