"""What was so each time when original values were read from a private store."""

from collections.abc import Callable
from typing import Any

import pytest

from localsynth.store.private import PrivateStore


def watch_rows(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]) -> list[Any]:
    """What `ask()` says at each query of the original rows, whatever method of `PrivateStore` makes it.

    Queries of the facts about the ingest are none, nor are those of `check_readable`, which release nothing.
    """
    seen: list[Any] = []
    rows, check, checking = PrivateStore._rows, PrivateStore.check_readable, []

    def watched(store: PrivateStore, sql: str, *values: Any) -> Any:
        if "private.original" in sql and not checking:
            seen.append(ask())
        return rows(store, sql, *values)

    def checked(store: PrivateStore) -> None:
        checking.append(store)
        try:
            check(store)
        finally:
            checking.pop()

    monkeypatch.setattr(PrivateStore, "_rows", watched)
    monkeypatch.setattr(PrivateStore, "check_readable", checked)
    return seen
