"""Synthetic rows as data frames."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localsynth.results.shown import html_table
from localsynth.store.synthetic import SyntheticStore

_SHOWN = 10


@dataclass(frozen=True)
class Rows:
    """Synthetic rows of a workspace: the `count` from row `first` on. They stay in the workspace's table."""

    path: Path = field(repr=False)
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def to_pandas(self) -> Any:
        """A pandas DataFrame. Raises ImportError without pandas."""
        return self._store().frame("pandas", self.first, self.count)

    def to_polars(self) -> Any:
        """A polars DataFrame. Raises ImportError without polars and pyarrow."""
        return self._store().frame("polars", self.first, self.count)

    def to_arrow(self) -> Any:
        """An Arrow table. Raises ImportError without pyarrow."""
        return self._store().frame("arrow", self.first, self.count)

    def _store(self) -> SyntheticStore:
        return SyntheticStore(self.path)

    def _repr_html_(self) -> str:
        shown = min(_SHOWN, self.count)
        names, rows = self._store().rows(self.first, shown)
        return html_table(names, rows, f"{shown} of {self.count:,} synthetic rows")
