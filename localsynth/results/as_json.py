"""Results as JSON, between processes and with --json."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, cast

Record = TypeVar("Record")


def to_json(record: Any) -> Any:
    """A result as JSON has it: each record as an object with its fields."""
    from pydantic_core import to_jsonable_python  # here, because `localsynth --help` does without

    return to_jsonable_python(record)


def from_json(kind: type[Record] | UnionType, document: Any) -> Record:
    """The inverse of `to_json`: a record of the type or union `kind`. Raises ValueError where `document` is none."""
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Record] = TypeAdapter(cast(Any, kind))
    return adapter.validate_python(document)


def without_private(document: Mapping[str, Any]) -> dict[str, Any]:
    """A result or an event as JSON without its `private`, and a result without that of the stages that it lists."""
    public = {key: value for key, value in document.items() if key != "private"}
    if "stages" in public:
        public["stages"] = [without_private(stage) for stage in public["stages"]]
    return public
