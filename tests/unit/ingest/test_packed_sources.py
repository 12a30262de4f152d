"""Archives with one file, folders of Parquet parts and Arrow files: the same rows as from the plain file."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import duckdb
import psutil
import pytest

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, DataError, LocalsynthError, ResourceError
from localsynth.ingest.sources.base import Row
from localsynth.ingest.sources.open import open_source
from localsynth.system import extras

CSV = "age,ward\n30,A1\n41,planted\n"
ROWS = (["age", "ward"], [("30", "A1"), ("41", "planted")])


def rows_of(path: Path, **options: object) -> tuple[list[str], list[Row]]:
    source = open_source(DataConfig.model_validate({"source": str(path), **options}))
    return source.columns, [row for batch in source.batches(1) for row in batch]


def refused(path: Path, kind: type[LocalsynthError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        rows_of(path)
    assert str(path) in caught.value.message and caught.value.hint
    assert "planted" not in caught.value.message + caught.value.hint and "/proc/" not in caught.value.message
    return caught.value.message


def zipped(path: Path, **files: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return path


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY ({select}) TO '{path}'")
    return path


def test_a_zip_with_one_file(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.ZIP", data__visits_csv=CSV)
    assert rows_of(path) == ROWS and rows_of(path, columns=["ward"])[1] == [("A1",), ("planted",)]
    source = open_source(DataConfig(source=str(path)))
    assert f"{source.path}" == f"{path}/visits.csv"
    assert source.sha256() == hashlib.sha256(CSV.encode()).hexdigest(), "of the table, whatever holds it"
    typed = parquet(tmp_path / "t.parquet", "SELECT 30 AS age, 'A1' AS ward")
    assert rows_of(zipped(tmp_path / "p.zip", t_parquet=typed.read_bytes())) == (["age", "ward"], [("30", "A1")])


def test_a_bad_zip_is_an_error_without_a_value(tmp_path: Path) -> None:
    assert "holds 2 files" in refused(zipped(tmp_path / "two.zip", a_csv=CSV, b_csv=CSV))
    assert "holds 0 files" in refused(zipped(tmp_path / "none.zip", folder__=""))
    assert "line 2: 1 fields" in refused(zipped(tmp_path / "bad.zip", a_csv="age,ward\nplanted\n"))
    path = tmp_path / "cut.zip"
    path.write_bytes(zipped(tmp_path / "whole.zip", a_csv=CSV).read_bytes()[:50])
    assert "no archive" in refused(path)
    path.write_bytes(b"")
    assert "no archive" in refused(path)
    assert "Cannot tell the format" in refused(zipped(tmp_path / "what.zip", a_what=CSV), ConfigError)


def test_a_protected_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "t.zip", a_csv=CSV).read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    (tmp_path / "t.zip").write_bytes(content)
    assert "protected by a password" in refused(tmp_path / "t.zip")


def test_an_archive_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = psutil.virtual_memory()._replace(available=2 * len(CSV) - 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert "takes more memory" in refused(zipped(tmp_path / "t.zip", a_csv=CSV), ResourceError)


def open_memory_files() -> list[str]:
    return [target for path in Path("/proc/self/fd").iterdir() if "memfd" in (target := os.path.realpath(path))]


def test_an_unpacked_table_reaches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path, before = zipped(tmp_path / "t.zip", a_csv=CSV), open_memory_files()
    source = open_source(DataConfig(source=str(path)))
    assert next(source.batches()) == ROWS[1] and len(open_memory_files()) == len(before) + 1
    assert list(tmp_path.iterdir()) == [path], "no file beside it, and no temporary one"
    del source
    assert open_memory_files() == before


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd")
def test_what_is_compressed_with_zstandard(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra formats with pyarrow")
    (tmp_path / "t.csv").write_text(CSV)
    subprocess.run(["zstd", "-q", "--rm", "t.csv"], cwd=tmp_path, check=True)
    path = tmp_path / "t.csv.zst"
    assert rows_of(path) == ROWS
    for content in (path.read_bytes()[:-6], b"age,ward\n"):
        path.write_bytes(content)
        assert "damaged" in refused(path)


@pytest.mark.parametrize("name", ["t.csv.zst", "t.arrow"])
def test_the_missing_library_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(ResourceError, match="needs pyarrow") as caught:
        rows_of(tmp_path / name)
    assert "localsynth[formats]" in caught.value.hint


def test_a_folder_of_parquet_parts(tmp_path: Path) -> None:
    folder = tmp_path / "visits=1"
    folder.mkdir()
    assert "without Parquet files" in refused(folder)
    for part in (2, 1, 10):
        parquet(folder / f"part-{part:05}.parquet", f"SELECT {part} AS n, 'x' AS t")
    (folder / "_SUCCESS").touch()
    assert rows_of(folder) == (["n", "t"], [("1", "x"), ("2", "x"), ("10", "x")])
    source = open_source(DataConfig(source=str(folder)))
    before = source.sha256()
    parquet(folder / "part-00011.parquet", "SELECT 11 AS n, 'y' AS t")
    assert open_source(DataConfig(source=str(folder))).sha256() != before
    parquet(folder / "part-00012.parquet", "SELECT 12 AS n, 'y' AS t, 'planted' AS more")
    with pytest.raises(DataError, match=r"part-00012.parquet has other columns.* than part-00001.parquet"):
        rows_of(folder)
    (folder / "year=2024").mkdir()
    (folder / "part-00012.parquet").rename(folder / "year=2024" / "a.parquet")
    assert "directories with further Parquet" in refused(folder)


@pytest.mark.parametrize("name", ["t.arrow", "t.feather", "t.arrows"])
def test_arrow_files(tmp_path: Path, name: str) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra formats with pyarrow")
    from pyarrow import feather, ipc

    table = pyarrow.table({"n": [1, 2, None], "t": ["x", None, "y"], "l": [[1], [2], []]})
    if name == "t.feather":
        feather.write_feather(table, str(tmp_path / name), chunksize=2)
    else:
        opened = ipc.new_file if name == "t.arrow" else ipc.new_stream
        with opened(str(tmp_path / name), table.schema) as out:
            out.write_table(table, max_chunksize=2)
    assert "column 'l' holds lists" in refused(tmp_path / name)
    assert rows_of(tmp_path / name, columns=["t", "n"]) == (["t", "n"], [("x", "1"), (None, "2"), ("y", None)])
    (tmp_path / name).write_bytes(b"planted" * 100)
    assert "cannot be read" in refused(tmp_path / name)
