"""One spelling for each JSON value, so that hashes and signatures do not depend on spaces or the order of keys."""

import hashlib
import json
from typing import Any

__all__ = ["canonical_json", "sha256_of"]


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces. Raises ValueError on NaN and infinities, which JSON lacks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def sha256_of(value: Any) -> str:
    """The SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
