"""The schema of a table: inferred from its rows, then corrected."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localsynth.api.calls import call, passed_on
from localsynth.config import DATA_FRAME, DataConfig
from localsynth.errors import ConfigError
from localsynth.results.shown import html_table
from localsynth.schema.columns import Column
from localsynth.schema.columns import Schema as Columns


@dataclass(frozen=True, repr=False)
class Schema:
    """The columns of a table, how its file is read, and what is unsure about them. Its methods return changed copies.

    columns  the columns with their kinds, bounds, lists and formats, and the constraints
    data     where the table comes from and how it is read
    notes    what to check; they may quote the original
    """

    columns: Columns
    data: DataConfig
    notes: tuple[str, ...] = ()

    @staticmethod
    def infer(data: Any, **reading: Any) -> "Schema":
        """The schema of a file, a pandas or polars DataFrame or an Arrow table, inferred from its rows.

        `reading` are keys of the section [data] of localsynth.toml, e.g. columns=["age", "sex"], missing=["", "?"].
        Raises LocalsynthError: the table or a key is unusable.
        """
        with passed_on(data) as (frame, inherited):
            source = DATA_FRAME if frame else os.fspath(data)
            found = call(dict[str, Any], "infer", {"data": {**reading, "source": source}, "frame": frame}, inherited)
        return Schema(Columns.model_validate(found["schema"]), DataConfig(**found["data"]), tuple(found["notes"]))

    def change(self, name: str, **fields: Any) -> "Schema":
        """The schema with other fields of a column, e.g. kind="category", values=["F", "M"], or min=0, max=120.

        With another `kind`, of its fields name, nullable and missing stay. Raises ConfigError.
        """
        try:
            column = self.columns.column(name)
        except KeyError:
            known = ", ".join(repr(each.name) for each in self.columns.columns)
            raise ConfigError(f"There is no column {name!r}.", f"The columns are {known}.") from None
        kept = {"name", "nullable", "missing"} if fields.get("kind", column.kind) != column.kind else None
        former = {"kind": column.kind, **column.model_dump(exclude_defaults=True, include=kept)}
        columns = [former | fields if each is column else each.model_dump() for each in self.columns.columns]
        return self._with(columns=columns)

    def declare(self, *, constraints: Sequence[str] | None = None, description: str | None = None) -> "Schema":
        """The schema with what holds in every row (e.g. "discharge >= admission"), or with a public line on the table."""
        changed = self if constraints is None else self._with(constraints=list(constraints))
        if description is None:
            return changed
        return replace(changed, data=changed.data.model_copy(update={"description": description}))

    def confirm(self) -> "Schema":
        """The schema as checked by a person: kinds, decimals, formats, and which columns may be empty."""
        return self._with(confirmed=True)

    def _with(self, **fields: Any) -> "Schema":
        try:
            return replace(self, columns=Columns.model_validate({**self.columns.model_dump(), **fields}))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"][2:])
            raise ConfigError(f"The schema cannot be so: {where} {first['msg']}".strip(), "See docs/reference.md.") from None

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{column.name}: {column.kind}' for column in self.columns.columns)})"

    def _repr_html_(self) -> str:
        rows = [(column.name, column.kind, _facts(column), ", ".join(column.unmeasured())) for column in self.columns.columns]
        return html_table(["column", "kind", "declared", "to be measured"], rows, Path(self.data.source).name)


def _facts(column: Column) -> str:
    shown = column.model_dump(exclude_defaults=True, exclude={"name", "kind"}, mode="json")
    return ", ".join(f"{key} = {value}" for key, value in shown.items())
