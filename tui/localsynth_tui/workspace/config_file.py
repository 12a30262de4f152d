"""Edits localsynth.toml in place: comments and order survive, and nothing invalid is written.

Every edit takes and returns text, checked with `parse_config`. `save` writes the file
atomically.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import tomlkit
from tomlkit.items import AoT, Table

from localsynth.config import Config, parse_config
from localsynth.errors import ConfigError
from localsynth.schema import columns as kinds
from localsynth.system.files import write_file

KINDS = {get_args(t.model_fields["kind"].annotation)[0]: t for t in get_args(get_args(kinds.Column)[0])}
"""The schema's class for each kind of column."""


def _set(table: Any, key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    elif isinstance(value, Mapping):
        table[key] = tomlkit.inline_table()
        table[key].update(value)
    else:
        table[key] = value


def with_keys(text: str, changes: Mapping[str, Any], where: str) -> tuple[str, Config]:
    """`text` with {"privacy.epsilon": 4.0, "privacy.delta": None (removed), ...}, and its configuration. Raises ConfigError."""
    document = tomlkit.parse(text)
    for dotted, value in changes.items():
        section, key = dotted.split(".")
        if section not in document:
            if value is None:
                continue
            document.add(section, tomlkit.table())
        _set(document[section], key, value)
    return _checked(document, where)


def with_column(text: str, name: str, changes: Mapping[str, Any], where: str) -> tuple[str, Config]:
    """`text` with fields of one column changed (None removes one). A new kind keeps the fields that it has, too."""
    document = tomlkit.parse(text)
    column: Table = next(column for column in _columns(document) if column["name"] == name)
    kind = str(changes.get("kind", column["kind"]))
    for key in set(column) - (set(KINDS[kind].model_fields) - {"measured"}):
        column.pop(key)
    for key, value in changes.items():
        _set(column, key, value)
    return _checked(document, where)


def without_column(text: str, name: str, where: str) -> tuple[str, Config]:
    """`text` with one column excluded: not ingested and not generated. Raises ConfigError where it is needed."""
    document = tomlkit.parse(text)
    columns = _columns(document)
    uses = (("privacy", "unit", "is the privacy unit"), ("data", "sequence_by", "gives the order of rows"))
    for section, key, what in uses:
        if document[section].get(key) == name:
            raise ConfigError(f"{name!r} {what}: it cannot be excluded.", "Choose another column for that first (W).")
    names = [str(column["name"]) for column in columns]
    if len(names) == 1:
        raise ConfigError(f"{name!r} is the only column.", "A table needs at least one.")
    del columns[names.index(name)]
    document["data"]["columns"] = [other for other in names if other != name]
    return _checked(document, where)


def with_column_back(text: str, column: Mapping[str, Any], source: Sequence[str], where: str) -> tuple[str, Config]:
    """`text` with an excluded column included again, as inferred, in the order of `source`; unconfirms the schema."""
    document = tomlkit.parse(text)
    columns = _columns(document)
    names = {str(other["name"]) for other in columns} | {str(column["name"])}
    order = [name for name in source if name in names]
    table = tomlkit.table()
    table.update(column)
    table.add(tomlkit.nl())
    columns.insert(order.index(str(column["name"])), table)
    if len(order) == len(source):
        document["data"].pop("columns", None)
    else:
        document["data"]["columns"] = order
    document["schema"]["confirmed"] = False
    return _checked(document, where)


def _columns(document: tomlkit.TOMLDocument) -> AoT:
    columns = document["schema"]["columns"]
    assert isinstance(columns, AoT)
    return columns


def _checked(document: tomlkit.TOMLDocument, where: str) -> tuple[str, Config]:
    text = tomlkit.dumps(document)
    return text, parse_config(text, where)


def read(path: Path) -> tuple[str, Config]:
    """The text of localsynth.toml, and its configuration. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return text, parse_config(text, path.name)


def save(path: Path, text: str, before: str) -> None:
    """Write `text`, unless the file is no longer `before` (changed meanwhile). Raises ConfigError, ResourceError."""
    if path.read_text(encoding="utf-8") != before:
        raise ConfigError(f"{path.name} was changed by another program.", "Leave this screen and come back to see the change.")
    if text != before:
        write_file(path, text)
