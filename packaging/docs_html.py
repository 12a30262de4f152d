"""Builds the documentation as HTML: README.md, CONTRIBUTING.md and the others, and docs/, with their links to each other.

    python packaging/docs_html.py [DIRECTORY]     default: dist/docs; its index.html is README.md

One page for each Markdown file, one style in each page, no script, nothing from elsewhere: it opens without a network.
Raises SystemExit where a link between two pages leads nowhere.
"""

import html
import os
import re
import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent

STYLE = """\
:root { color-scheme: light dark; }
/* Wide enough for what a terminal shows, 120 characters; text lines stay shorter. */
body { max-width: 58rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; }
nav { font-size: 0.9rem; border-bottom: 1px solid #8886; padding-bottom: 0.6rem; }
nav a { margin-right: 0.9rem; }
p, ul, ol, h1, h2, h3 { max-width: 46rem; }
p:has(img) { max-width: none; }
img { max-width: 100%; height: auto; }
pre { overflow-x: auto; padding: 0.7rem; background: #8881; border-radius: 4px; font-size: 0.85rem; }
code { font-family: ui-monospace, monospace; font-size: 0.9em; }
table { border-collapse: collapse; font-size: 0.9rem; display: block; overflow-x: auto; }
/* An option is not broken at its hyphens. */
td:first-child > code { white-space: nowrap; }
th, td { border: 1px solid #8886; padding: 0.3rem 0.5rem; text-align: left; vertical-align: top; }
"""

NAVIGATION = {
    "README.md": "Overview",
    "docs/index.md": "Documentation",
    "docs/promise.md": "What is promised",
    "docs/tutorial.md": "Tutorial",
    "docs/howto/index.md": "How to",
    "docs/reference.md": "Reference",
    "docs/explanation.md": "Explanation",
    "docs/guarantee.md": "The guarantee",
}

IMAGES = Path("docs/images")
"""The pictures of all pages; they lie in the output where they lie in the source."""


def pages() -> list[Path]:
    """The Markdown files that are published, relative to the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def target_of(page: Path) -> Path:
    """Where a page goes, relative to the output."""
    return Path("index.html") if page == Path("README.md") else page.with_suffix(".html")


def anchor(text: str) -> str:
    """The name of a heading in a link, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def link(page: Path, href: str, known: set[Path], broken: list[str]) -> str:
    """A link of `page` for the HTML: to another page's HTML file, to a file of the source where that is no page."""
    if re.match(r"[a-z]+:", href) or href.startswith("#"):
        return href
    path, _, fragment = href.partition("#")
    meant = Path(os.path.normpath(page.parent / path))
    if meant not in known:
        if not (ROOT / meant).exists():
            broken.append(f"{page}: {href}")
        return href
    relative = os.path.relpath(target_of(meant), target_of(page).parent)
    return relative + (f"#{fragment}" if fragment else "")


def render(page: Path, known: set[Path], broken: list[str]) -> str:
    """The page as a whole HTML document."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse((ROOT / page).read_text(encoding="utf-8"))
    title = page.stem
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            text = plain(tokens[index + 1])
            token.attrSet("id", anchor(text))
            title = text if token.tag == "h1" else title
        for child in token.children or []:
            if child.type == "link_open":
                child.attrSet("href", link(page, str(child.attrGet("href")), known, broken))
            elif child.type == "image" and not (ROOT / page.parent / str(child.attrGet("src"))).is_file():
                broken.append(f"{page}: {child.attrGet('src')}")
    navigation = " ".join(
        f'<a href="{html.escape(link(page, os.path.relpath(name, page.parent), known, broken))}">{label}</a>'
        for name, label in NAVIGATION.items()
    )
    body = parser.renderer.render(tokens, parser.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<nav>{navigation}</nav>\n{body}</body>\n</html>\n"
    )


def plain(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def build(out: Path) -> list[Path]:
    """Write every page under `out`, which is emptied first; the files written."""
    broken: list[str] = []
    known = set(pages())
    written = {out / target_of(page): render(page, known, broken) for page in sorted(known)}
    if broken:
        raise SystemExit("Links that lead nowhere:\n  " + "\n  ".join(broken))
    shutil.rmtree(out, ignore_errors=True)
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / IMAGES, out / IMAGES)
    return list(written)


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "docs"
    print(f"{len(build(directory))} pages in {directory}")
