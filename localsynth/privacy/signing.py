"""The key that signs certificates: Ed25519, made on first use and stored beside the workspaces' keys, never in a workspace."""

import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from localsynth.errors import IntegrityError
from localsynth.system.canonical_json import canonical_json
from localsynth.system.files import config_directory, make_private_directory, write_file

ALGORITHM = "Ed25519"


def signing_key() -> Ed25519PrivateKey:
    """The user's key, from `signing-key` (hex, mode 0600) in the configuration directory. Raises IntegrityError."""
    path = config_directory() / "signing-key"
    if not path.exists():
        make_private_directory(path.parent)
        write_file(path, Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n", mode=0o600)
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except ValueError:
        raise IntegrityError(
            f"{path} is damaged: it holds no signing key.", "Restore it from a backup, or remove it to sign with a new key."
        ) from None


def fingerprint(public_key: bytes) -> str:
    """The first 32 hex digits of the SHA-256 of the raw public key: short enough to read aloud."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def _signed_part(document: dict[str, Any]) -> bytes:
    return canonical_json({key: value for key, value in document.items() if key != "signature"})


def sign(document: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """`document` with its `signature`, over the canonical JSON of the rest."""
    value = key.sign(_signed_part(document)).hex()
    signature = {"algorithm": ALGORITHM, "public_key": key.public_key().public_bytes_raw().hex(), "value": value}
    return {**document, "signature": signature}


def is_signature_valid(document: dict[str, Any]) -> bool:
    """Whether `document["signature"]` was made over the rest of it by the key it names."""
    signature = document["signature"]
    if not isinstance(signature, dict) or set(signature) != {"algorithm", "public_key", "value"}:
        return False
    if signature["algorithm"] != ALGORITHM or not all(isinstance(value, str) for value in signature.values()):
        return False
    try:
        # Hex has more than one spelling of the same bytes; only the one that `sign` writes counts.
        key, value = bytes.fromhex(signature["public_key"]), bytes.fromhex(signature["value"])
        if (key.hex(), value.hex()) != (signature["public_key"], signature["value"]):
            return False
        Ed25519PublicKey.from_public_bytes(key).verify(value, _signed_part(document))
    except (ValueError, InvalidSignature):
        return False
    return True
