"""The hash of a model: the SHA-256 of its file as it was before the certificate was put into it.

The certificate holds this hash and travels inside the same GGUF, so it alone is left out. Where it lies, and what it changes
elsewhere in the file, is fixed: it is the last key, the count of keys is one less without it, and all padding is zero.
"""

import hashlib
from pathlib import Path

from localsynth.privacy.certificate import CERTIFICATE_KEY


def model_hash(path: Path) -> str:
    """SHA-256, in hex, of the file's bytes without the certificate: without one, what `sha256sum` prints.

    The file is streamed, so memory use is small. Raises IntegrityError where it is no GGUF file or holds bytes that nothing
    claims, ConfigError where it is one part of several.
    """
    from localsynth.llm.gguf_file import GgufFile

    digest = hashlib.sha256()
    for part in GgufFile(path).parts_without(CERTIFICATE_KEY):
        digest.update(part)
    return digest.hexdigest()
