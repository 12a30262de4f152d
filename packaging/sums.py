"""The hash of every file of the bundle, for pip and for people, and an Ed25519 signature over the hashes.

The private key is made on first use, mode 0600, in $LOCALSYNTH_RELEASE_KEY or ~/.config/localsynth-release/signing-key.pem.
`openssl` can check what is written here; install.sh does.
"""

import hashlib
import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUMS = "SHA256SUMS"
CONSTRAINTS = "constraints.txt"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_constraints(directory: Path) -> Path:
    """constraints.txt with the version and the hash of every wheel under `directory`/wheels but pip's: pip takes no other."""
    lines = ["# pip install --no-index --find-links wheels --require-hashes -r constraints.txt"]
    for wheel in sorted((directory / "wheels").glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        if name != "pip":
            extra = "[train]" if name == "localsynth" else ""
            lines.append(f"{name}{extra}=={version} --hash=sha256:{_sha256(wheel)}")
    constraints = directory / CONSTRAINTS
    constraints.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return constraints


def write_sums(directory: Path) -> Path:
    """SHA256SUMS, in the form of sha256sum, over every other file under `directory`."""
    lines = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith(SUMS):
            lines.append(f"{_sha256(path)}  {path.relative_to(directory)}")
    sums = directory / SUMS
    sums.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sums


def release_key() -> Ed25519PrivateKey:
    """The key that signs bundles, made where there is none."""
    default = Path("~/.config/localsynth-release/signing-key.pem").expanduser()
    path = Path(os.environ.get("LOCALSYNTH_RELEASE_KEY") or default)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise SystemExit(f"{path} is no Ed25519 key.")
    return key


def sign(sums: Path) -> str:
    """Write SHA256SUMS.sig and SHA256SUMS.pub beside `sums`; returns the fingerprint: the SHA-256 of the .pub file."""
    key = release_key()
    sums.with_name(SUMS + ".sig").write_bytes(key.sign(sums.read_bytes()))
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    sums.with_name(SUMS + ".pub").write_bytes(pem)
    return hashlib.sha256(pem).hexdigest()
