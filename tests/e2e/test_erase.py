"""After `erase` no file of the workspace, nor of the configuration directory, holds an original value."""

import base64
import csv
import gzip
import io
import json
import random
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from localsynth.llm.gguf_file import GgufFile, Tensor, write_gguf

PLANTED = [f"planted{i:04d}x{random.Random(i).randrange(16**6):06x}" for i in range(200)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """400 rows; each planted string stands in one column of one row, in columns of five kinds."""
    path, kinds = tmp_path / "source.csv", ["refund", "delivery", "question"]
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["code", "name", "kind", "email", "note"])
        for i in range(400):
            row = [f"C{i}", f"Person {i}", kinds[i % 3], f"p{i}@example.org", f"please help with my {kinds[i % 3]}"]
            if i < len(PLANTED):
                column = i % 5
                row[column] = [PLANTED[i], f"Ann {PLANTED[i]}", PLANTED[i], f"{PLANTED[i]}@example.org", f"see {PLANTED[i]} now"][
                    column
                ]
            writer.writerow(row)
    return path


FORMS = re.compile(
    b"|".join(form for word in PLANTED for form in (word.encode(), word[::-1].encode(), word.encode().hex().encode()))
)


def in_base64(word: str) -> Iterator[bytes]:
    """The letters that stand for a word wherever it begins, without those that its neighbours have a part in."""
    for shift in range(3):
        yield base64.b64encode(bytes(shift) + word.encode())[4 * (shift > 0) : -4]


IN_BASE64 = re.compile(b"|".join(re.escape(form) for word in PLANTED for form in in_base64(word)))


def planted_in(content: bytes) -> list[bytes]:
    """The planted strings in these bytes: as UTF-8, UTF-16 or UTF-32 in any case, plain, reversed or as hex; and in base64."""
    low = content.lower()
    return sorted({*FORMS.findall(low), *FORMS.findall(low.replace(b"\0", b"")), *IN_BASE64.findall(content)})


def unpacked(path: Path) -> bytes:
    """What is inside a file that stores its content in another form: compressed, or as a database."""
    content = path.read_bytes()
    inside = [content]
    if content[:2] == b"\x1f\x8b":
        inside.append(gzip.decompress(content))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inside += [archive.read(name) for name in archive.namelist()]
    for head in re.finditer(rb"\x78[\x01\x9c\xda]", content):  # zlib streams, wherever they begin
        with suppress(zlib.error):
            inside.append(zlib.decompressobj().decompress(content[head.start() : head.start() + 2**20]))
    if content[:4] == b"GGUF":
        model = GgufFile(path)
        values = [model.value(key) for key in model.fields]
        texts = ["".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]
        inside += [text.encode("utf-8", "surrogateescape") for text in texts]  # also what is cut into tokens
        inside += [np.clip(np.rint(model.array(name)), 0, 255).astype(np.uint8).tobytes() for name in model.tensors]
    if path.name == "private.duckdb":
        return content  # encrypted
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as database:
            for (name,) in database.execute("select table_name from duckdb_tables()").fetchall():
                inside.append(repr(database.sql(f'select * from "{name}"').fetchall()).encode())
    return b"\n".join(inside)


def found(root: Path) -> dict[str, list[bytes]]:
    hits = {path: planted_in(unpacked(path)) for path in root.rglob("*") if path.is_file()}
    return {str(path.relative_to(root)): words[:3] for path, words in hits.items() if words}


def test_the_search_itself_finds_what_is_there(tmp_path):
    word = PLANTED[7]
    (tmp_path / "a.gz").write_bytes(gzip.compress(word.encode()))
    (tmp_path / "b.bin").write_bytes(b"head" + zlib.compress(word.upper().encode()))
    (tmp_path / "c.bin").write_bytes(word.encode("utf-16-le"))
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", word)
    with duckdb.connect(str(tmp_path / "e.duckdb")) as database:
        database.execute("create table t as select ? as x", [word])
    np.savez_compressed(tmp_path / "f.npz", words=np.array([word]))
    (tmp_path / "g.txt").write_bytes(base64.b64encode(b"so " + word.encode() + b" it is"))
    letters = np.tile(np.frombuffer(word.encode(), np.uint8), 64).astype(np.float32)
    tensor = Tensor("w", (len(letters) // 32, 32), GGMLQuantizationType.Q8_0)
    quantized = quantize(letters.reshape(tensor.shape), tensor.kind)
    write_gguf(tmp_path / "h.gguf", {}, [tensor], lambda _: [quantized])
    writer = GGUFWriter(tmp_path / "i.gguf", "llama")
    writer.add_token_list([word[:5], word[5:]])
    writer.add_tensor("w", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (
        [path.name[0] for path in sorted(tmp_path.iterdir())] == sorted(name[0] for name in found(tmp_path)) == list("abcdefghi")
    )


def test_nothing_original_is_left(localsynth, source, tmp_path):
    localsynth.ok("init", "ws", "--data", source)
    localsynth.shorten_texts("ws", 48)  # none is longer
    result = localsynth.ok("run", "ws", "--rows", 20, *localsynth.quick(count_texts=True), "--json").json()
    workspace = tmp_path / "ws"
    run = next((workspace / "runs").iterdir())
    (run / "report.html").write_text(f"<p>{PLANTED[0]}")
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "state").write_text(PLANTED[1])
    assert found(workspace), "the search finds what is to go"

    refused = localsynth("erase", "ws")
    assert refused.code == 2 and "--yes" in refused.err and (workspace / "private.duckdb").exists()
    erased = localsynth.ok("erase", "ws", "--yes", "--json").json()
    assert erased["source"] == str(source) and "private.duckdb" in erased["removed"] and erased["left"] == []
    assert found(workspace) == {} and found(tmp_path / "home") == {}
    assert not list((tmp_path / "home").rglob("private.key"))

    for verb in (["ingest", "ws"], ["train", "ws", "--again"], ["run", "ws", "--again"]):
        later = localsynth(*verb, *localsynth.quick())
        assert later.code == 2 and "were erased" in later.err, (verb, later.err)
    localsynth.ok("sample", "ws", "--more", 3, *localsynth.quick())
    assert localsynth.ok("query", "ws", "select count(*) as n from synthetic", "--json").json() == [{"n": 23}]
    localsynth.ok("export-data", "ws", "--format", "csv", "--out", "out.csv")
    for target in (result["certificate"], result["model"]):
        report = localsynth.ok("verify", target, "--json").json()
        (said,) = [finding for finding in report["findings"] if finding["name"] == "erasure"]
        assert report["valid"] and said["status"] == "stated" and "the signer of this certificate" in said["text"]
    assert found(workspace) == {} and planted_in((tmp_path / "out.csv").read_bytes()) == []
    record = json.loads((workspace / "erasure.json").read_text())
    (workspace / "erasure.json").write_text(json.dumps(record | {"erased": "2020-01-01"}))
    assert localsynth("verify", result["certificate"]).code == 6
