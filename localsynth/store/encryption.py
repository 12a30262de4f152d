"""DuckDB connections that open an encrypted file offline; the key is from `localsynth.store.key`.

DuckDB writes encrypted files (AES-GCM) only with OpenSSL, which its httpfs extension contains.
The extension comes from an installed wheel and is loaded by path; nothing is downloaded.
"""

from pathlib import Path

import duckdb

from localsynth.errors import ResourceError
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import OFFLINE

_MEMORY = "1GB"


def _extension() -> Path:
    try:
        import duckdb_extension_httpfs
    except ImportError:
        found: list[Path] = []
    else:
        found = sorted(Path(duckdb_extension_httpfs.__file__).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension"))
    if not found:
        raise ResourceError(
            f"The encryption module for DuckDB {duckdb.__version__} is not installed.",
            f"Install it: pip install duckdb-extension-httpfs=={duckdb.__version__}",
        )
    return found[0]


def connect(spill: Path | None = None, memory: str = _MEMORY) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that can attach encrypted files and downloads nothing.

    Data beyond `memory` is spilled to encrypted files in the directory `spill`; without one it is an error.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            **OFFLINE,
            "memory_limit": memory,
            "temp_directory": "" if spill is None else str(spill),
            "temp_file_encryption": True,
            # pip installed the file, as it did DuckDB itself. DuckDB would check its signature again for each connection, in
            # most of the time that opening takes.
            "allow_unsigned_extensions": True,
        },
    )
    connection.execute(f"LOAD {literal(str(_extension()))}")
    return connection


def attach(connection: duckdb.DuckDBPyConnection, path: Path, key: str, read_only: bool) -> None:
    """Attach the encrypted file `path` as the catalog `private`. Raises duckdb.Error."""
    mode = ", READ_ONLY" if read_only else ""
    connection.execute(f"ATTACH {literal(str(path))} AS private (ENCRYPTION_KEY '{key}', ENCRYPTION_CIPHER 'GCM'{mode})")
