"""The report of an evaluation, as a notebook shows it."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from localsynth.system.files import read_json


@dataclass(frozen=True)
class Report:
    """A report: its page, its figures as a JSON file, and whether it is private, since it reads the original rows."""

    path: Path
    json_path: Path
    private: bool

    def figures(self) -> dict[str, Any]:
        """All figures of the report."""
        return dict(read_json(self.json_path)["figures"])

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 1px solid"></iframe>'
