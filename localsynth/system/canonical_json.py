"""Canonical JSON, so that hashes and signatures do not depend on spaces or the order of keys.

Reading refuses duplicate keys, since parsers differ in which one counts.
"""

import hashlib
import json
from typing import Any

_MAX_DIGITS = 400
"""Of an integer: no float has more, and Python does not parse 4,300."""


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces. Raises ValueError on NaN and infinities, which JSON lacks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"holds the key {key!r} twice")
        result[key] = value
    return result


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("holds a number that is too long")
    return int(digits)


def parse_json(text: str) -> Any:
    """The value of `text`. Raises ValueError; its text completes "the document ..." ("is not JSON")."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_int=_integer)
    except json.JSONDecodeError:
        raise ValueError("is not JSON") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def sha256_of(value: Any) -> str:
    """The SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
