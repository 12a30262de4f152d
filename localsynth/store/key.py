"""The key of private.duckdb: its location, creation, destruction, and wrapping by a passphrase.

Without a passphrase the file holds the key itself: 32 random bytes in hex. With one it holds a
JSON object: the key encrypted by AES-256-GCM under scrypt(passphrase, salt) with n = 2^17,
r = 8, p = 1 (RFC 7914; 128 MiB and some tenths of a second a guess), with the workspace's id as
associated data. The passphrase is not stored.
"""

import functools
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.system.canonical_json import parse_json
from localsynth.system.files import read_json, write_file, write_json
from localsynth.workspace.paths import Workspace

_KEY_BYTES = 32
_SALT_BYTES, _NONCE_BYTES, _TAG_BYTES = 16, 12, 16
_LENGTHS = {"salt": _SALT_BYTES, "nonce": _NONCE_BYTES, "wrapped": _KEY_BYTES + _TAG_BYTES}
_FORMAT = 1
_INGEST_AGAIN = (
    "remove {path} and private.duckdb, and run `localsynth ingest` (earlier measurements are kept and not charged again)."
)


def key_path(workspace: Workspace) -> Path:
    """The file of the key. Without it nobody can read the private data."""
    return workspace.keys_path / "private.key"


def is_wrapped(workspace: Workspace) -> bool:
    """Whether reading or creating the workspace's key needs a passphrase."""
    path = key_path(workspace)
    if path.exists():
        try:
            return path.read_bytes()[:1] == b"{"
        except OSError:
            return False  # read_key reports the error
    # Where the key was lost, its replacement is wrapped, too.
    return bool(read_json(workspace.identity_path).get("passphrase"))


def make_key(workspace: Workspace) -> str:
    """The workspace's key in hex, created (mode 0600) if there is none. Raises as `read_key`."""
    path = key_path(workspace)
    if not path.exists():
        if is_wrapped(workspace):
            _require_passphrase(workspace)
        _write(path, secrets.token_bytes(_KEY_BYTES), workspace)
    return read_key(workspace)


def read_key(workspace: Workspace, *, unwrapped: bool = False) -> str:
    """The workspace's key in hex, unwrapped with `workspace.passphrase` where it is wrapped.

    Raises IntegrityError where it is missing, is not a key, the passphrase is wrong, or it is not wrapped though the
    workspace has a passphrase (unless `unwrapped`); ConfigError where the passphrase was not given.
    """
    path = key_path(workspace)
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise IntegrityError(
            f"The key of the private data is missing: {path}.",
            "The data was erased, or the workspace comes from another machine or user: remove private.duckdb and run "
            "`localsynth ingest`; earlier measurements are kept and not charged again.",
        ) from None
    except (OSError, UnicodeDecodeError):
        raise IntegrityError(f"The key of the private data cannot be read: {path}.", "Check its permissions.") from None
    if text.startswith("{"):
        key = _unwrap(workspace, path, text).hex()
        _destroy_parts(workspace)
        return key
    if not re.fullmatch(rf"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        raise _not_a_key(path)
    if not unwrapped and read_json(workspace.identity_path).get("passphrase"):
        raise IntegrityError(
            f"{path} is not protected by a passphrase, though this workspace has one.",
            "A change of the passphrase was interrupted, or the file was replaced. Set it again with `localsynth passphrase "
            "WS`, or remove it with --remove.",
        )
    return text


def check_passphrase(workspace: Workspace) -> None:
    """Check the passphrase, if one is needed, before anything is charged or read. Raises as `read_key`."""
    if is_wrapped(workspace):
        make_key(workspace)


def change_passphrase(workspace: Workspace, new: str | None) -> None:
    """Wrap the key with the passphrase `new`, or store it unwrapped (None). Key and private.duckdb do not change.

    `workspace.passphrase` is the present one, if any. A missing key is created. Raises as `read_key`.
    """
    path = key_path(workspace)
    key = bytes.fromhex(read_key(workspace, unwrapped=True)) if path.exists() else secrets.token_bytes(_KEY_BYTES)
    if new is not None:
        _note(workspace, True)
    _write(path, key, Workspace(workspace.root, new))
    if new is None:
        _note(workspace, False)


def destroy_key(workspace: Workspace) -> None:
    """Overwrite the key, flush to disk, and remove the file, if there is one. Raises ResourceError."""
    _destroy([key_path(workspace)])
    _destroy_parts(workspace)


def _destroy_parts(workspace: Workspace) -> None:
    """Destroy partial files: a killed write may have left the whole key, unwrapped."""
    _destroy(workspace.keys_path.glob(".private.key.*"))


def _destroy(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            with path.open("r+b") as file:
                _overwrite(file.fileno())
            path.unlink()
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ResourceError(
                f"Cannot destroy the key {path}: {error.strerror}.", "Check its permissions, then start the command again."
            ) from None


def _note(workspace: Workspace, wrapped: bool) -> None:
    write_json(workspace.identity_path, {**read_json(workspace.identity_path), "passphrase": wrapped})


def _require_passphrase(workspace: Workspace) -> str:
    if workspace.passphrase is None:
        raise ConfigError(
            f"The key of {workspace.root} is protected by a passphrase, and none was given.",
            "Start the command on a terminal and enter it, or give it with --passphrase-fd N.",
        )
    return workspace.passphrase


def _not_a_key(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} does not hold a key.", f"Restore it from a backup, or {_INGEST_AGAIN.format(path=path)}")


@functools.lru_cache(maxsize=1)
def _derive(passphrase: str, salt: bytes) -> bytes:
    # Different keyboards can produce different code points for the same letters.
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    return Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(secret)


def _write(path: Path, key: bytes, workspace: Workspace) -> None:
    """Write the key, wrapped if the workspace has a passphrase, and overwrite the former file's content."""
    if workspace.passphrase is None:
        text = key.hex()
    else:
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(_derive(workspace.passphrase, salt)).encrypt(nonce, key, workspace.id.encode())
        text = json.dumps({"format": _FORMAT, "salt": salt.hex(), "nonce": nonce.hex(), "wrapped": sealed.hex()})
    _destroy_parts(workspace)
    before = os.open(path, os.O_RDWR) if path.exists() else None
    try:
        write_file(path, text + "\n", mode=0o600)
        if before is not None:
            _overwrite(before)
    finally:
        if before is not None:
            os.close(before)


def _overwrite(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    for filler in (os.urandom(size), bytes(size)):
        os.pwrite(descriptor, filler, 0)
        os.fsync(descriptor)


def _unwrap(workspace: Workspace, path: Path, text: str) -> bytes:
    passphrase = _require_passphrase(workspace)
    try:
        parts: dict[str, Any] = parse_json(text)
        if set(parts) != {"format", *_LENGTHS} or parts["format"] != _FORMAT:
            raise _not_a_key(path)
        salt, nonce, sealed = (bytes.fromhex(parts[name]) for name in _LENGTHS)
    except (ValueError, TypeError):
        raise _not_a_key(path) from None
    if [len(part) for part in (salt, nonce, sealed)] != list(_LENGTHS.values()):
        raise _not_a_key(path)
    try:
        return AESGCM(_derive(passphrase, salt)).decrypt(nonce, sealed, workspace.id.encode())
    except InvalidTag:
        raise IntegrityError(
            f"The passphrase is wrong, or {path} is damaged.",
            "Try again with the right one. If it is lost, nobody can read the original rows: " + _INGEST_AGAIN.format(path=path),
        ) from None


MIN_LENGTH = 8
"""Characters. The wrapped key can be attacked offline, so a sentence is better."""
