"""Writes docs/claims.md, the table of the guarantee's claims, from docs/guarantee.toml.

    python packaging/docs_claims.py           writes it
    python packaging/docs_claims.py --check   exits with 1 where it is not what the TOML says

Pointers to code and tests become links to their files.
"""

import sys
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs" / "guarantee.toml"
TARGET = ROOT / "docs" / "claims.md"

HEAD = """\
# The claims of the guarantee

Generated from `docs/guarantee.toml` by `make docs`; do not edit.
[guarantee.md](guarantee.md) explains the mechanisms behind these claims.

Each claim names the code that keeps it and the tests that fail when it stops being true.
*No test* means that the code does it today and nothing would notice if it stopped.
The text of a link to a test is the name of the test function, without `test_` and with spaces.
"""


def claims() -> list[dict[str, Any]]:
    """Every claim, in the order of the file: id, section, claim, code, and tests or untested."""
    found: list[dict[str, Any]] = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["claim"]
    return found


def link(pointer: str) -> str:
    """A Markdown link to the file of "path" or "path::Name", with a short text."""
    path, _, name = pointer.partition("::")
    text = name.removeprefix("test_").replace("_", " ") if name.startswith("test_") else f"`{name or Path(path).name}`"
    return f"[{text}](../{path})"


def cell(text: str) -> str:
    """Text for a cell of a table, with its bars escaped."""
    return text.replace("|", "\\|")


def row(claim: dict[str, Any]) -> str:
    code = ", ".join(map(link, claim["code"]))
    tests = ", ".join(map(link, claim["tests"])) if "tests" in claim else f"*No test.* {cell(claim['untested'])}"
    return f"| {claim['id']} | {cell(claim['claim'])} | {code} | {tests} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for section, group in groupby(claims(), key=lambda claim: claim["section"]):
        head = [f"## {section}", "", "| id | claim | code | tests |", "|---|---|---|---|"]
        parts.append("\n".join([*head, *map(row, group)]) + "\n")
    return "\n".join(parts)


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        stale = not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text
        if stale:
            print(f"{TARGET} is not what {SOURCE} says. Write it again with: make docs", file=sys.stderr)
        return int(stale)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
