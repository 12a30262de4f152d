"""Whatever stands in a file or an argument: an error of ours or an answer, never another exception, and never "valid"."""

import copy
import dataclasses
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localsynth.config import DataConfig, PrivacyConfig, TextCountsConfig, TrainConfig, load_config, parse_config, render_config
from localsynth.errors import ConfigError, IntegrityError, LocalsynthError
from localsynth.ingest.infer import infer_schema
from localsynth.ingest.sources.open import open_source
from localsynth.llm.adapter import read_adapter, write_adapter
from localsynth.llm.gguf_file import GgufFile
from localsynth.llm.row_text import Codec, format_value, parse_value
from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import measure_marginals
from localsynth.privacy.account import Account
from localsynth.privacy.certificate import CertificateFacts, build
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.ledger import Ledger
from localsynth.privacy.ledger_chain import Basis
from localsynth.privacy.noise import SECURE_LABEL, SecureRandom
from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number, Schema, Text
from localsynth.schema.where import parse_where
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.system.files import file_sha256
from localsynth.verification.file import verify_file
from tests.helpers.tiny_model import random_adapter

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
ODD = [
    "'; DROP VIEW synthetic; --",
    '"quoted" name',
    "[section]",
    'key = "value"',
    "../../etc/passwd",
    "/dev/null",
    "\x1b[31mred\x1b[0m",
    "a: b",
    "(?:x|y)*",
    "%regex{.*}",
    "start: /./",
    "<|im_end|>",
    "\\N",
    "{{7*7}}",
    "${HOME}",
    "c0",
    "row_number",
    "synthetic",
    "select",
    "=1+1",
    "név 📏",
    "a\u202eb",
    "'''",
    '"""',
    "#",
]


def name_of(odd: str) -> str:
    """The column's name; one that could steer a terminal is refused by the schema, and only its value is tried."""
    if "\x1b" in odd:
        with pytest.raises(ValueError, match="control characters"):
            Text(name=odd)
        return "plain name"
    return odd


SCHEMA = Schema(
    columns=[
        Integer(name="age", min=0, max=100),
        Number(name="price", min=0.0, max=9.0, decimals=2),
        Category(name="kind", values=["a", "b"]),
        Boolean(name="ok"),
        Date(name="day", min="2020-01-01", max="2021-01-01"),
        DateTime(name="at", min="2020-01-01T00:00:00", max="2021-01-01T00:00:00"),
        Text(name="note"),
    ]
)
HEAD = '[data]\nsource = "x.csv"\n[schema]\nconfirmed = true\n[[schema.columns]]\nname = "n"\nkind = "integer"\n'


# --- the configuration


@FEW
@given(st.text(max_size=60))
def test_any_text_as_configuration(text: str) -> None:
    for whole in (text, HEAD + text):
        with suppress(ConfigError):
            parse_config(whole, "localsynth.toml")


@FEW
@given(
    section=st.sampled_from(["data", "schema", "privacy", "train", "sample", "nosuch"]),
    key=st.sampled_from(["source", "epsilon", "delta", "unit", "columns", "model", "rows", "missing", "seed", "confirmed", "x"]),
    value=st.one_of(
        st.text(max_size=12).map(json.dumps),
        st.sampled_from(["nan", "inf", "-1", "1e999", "[]", "{}", "[[1]]", "2020-01-01", "true", "9999999999999999999999", '""']),
    ),
)
def test_any_value_under_any_key(section: str, key: str, value: str) -> None:
    with suppress(ConfigError):
        parse_config(HEAD, "localsynth.toml", [f"{section}.{key}={value}"])


@pytest.mark.parametrize("name", ODD)
def test_names_and_values_survive_the_configuration(tmp_path: Path, name: str) -> None:
    schema = Schema(columns=[Category(name=name_of(name), values=[name, "b"]), Text(name="other")])
    path = tmp_path / "localsynth.toml"
    path.write_text(render_config(DataConfig(source=f"/tmp/{name}", description=name), schema, f"ws\n{name}\r"))
    config = load_config(path)
    assert config.schema_ == schema and config.data.source == f"/tmp/{name}"


# --- the source


@FEW
@given(content=st.binary(max_size=200), kind=st.sampled_from(["csv", "tsv", "jsonl", "parquet", "duckdb"]), gz=st.booleans())
def test_any_bytes_as_a_source(tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str, gz: bool) -> None:
    path = tmp_path_factory.mktemp("source") / f"t.{kind}{'.gz' if gz else ''}"
    path.write_bytes(content)
    with suppress(LocalsynthError):
        infer_schema(open_source(DataConfig(source=str(path), format=kind)), [""])


CELL = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(['"', ",", "\n", "\r", "\0"]),
)


@FEW
@given(
    rows=st.lists(st.lists(CELL, min_size=1, max_size=3), min_size=1, max_size=5), end=st.sampled_from(["\n", "\r\n", "\r", ""])
)
def test_any_lines_as_a_csv(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(end.join(",".join(row) for row in rows), encoding="utf-8", newline="")
    with suppress(LocalsynthError):
        infer_schema(open_source(DataConfig(source=str(path), header=True)), [""])


# --- names and categories


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_and_categories_are_rows_like_others(tmp_path: Path, odd: str) -> None:
    name = name_of(odd)
    schema = Schema(columns=[Category(name=name, values=[odd, "plain"]), Text(name="free text")])
    column = schema.columns[0]
    assert parse_value(column, format_value(column, odd)) == odd
    codec = Codec(schema, lambda text: list(text.encode()), [0], odd)
    assert codec.encode({name: odd, "free text": odd})
    store = SyntheticStore(tmp_path / "s.duckdb")
    store.create_table(schema)
    job = store.open_job(Origin("r", "0", 0, 1.0, 1e-6, {}, {}), total=2)
    store.append(job.number, job.first_row, [{name: odd, "free text": odd}, {name: "plain", "free text": None}])
    assert store.query("select * from synthetic") == ([name, "free text"], [(odd, odd), ("plain", None)])
    for kind in ("csv", "jsonl", "parquet"):
        assert store.export(kind, tmp_path / f"out.{kind}") == 2
    quoted = name.replace('"', '""')
    literal = odd.replace("'", "''")
    assert parse_where(f"\"{quoted}\" = '{literal}'", schema)


# --- SQL


SQL_WORDS = (
    "select * from synthetic where n = ( ) , ; -- /* */ ' \" union all attach copy to '/tmp/fuzzed-x' "
    "read_csv('/etc/passwd') install load httpfs pragma set insert into numbered_rows values delete drop view jobs "
    "create table temp as with t explain analyze read_text('/etc/passwd') glob('/*') export database "
    "'/tmp/fuzzed-y' call checkpoint 1 null ? $1 :: int getenv('HOME')"
)
READERS = (
    "read_text('/etc/passwd')",
    "'/etc/passwd'",
    "read_csv('/etc/passwd', delim=':')",
    "read_blob('/etc/passw*')",
    "glob('/etc/passwd*')",
)
AROUND = (
    "select * from {}",
    "from {}",
    "with t as (from {}) from t",
    "select (select string_agg(x, '') from {} as t(x))",
    "explain {}",
)
SQL = st.one_of(
    st.lists(st.sampled_from(SQL_WORDS.split(" ")), max_size=14).map(" ".join),
    st.builds(
        lambda around, more, reader: around.format(more.format(reader)), *map(st.sampled_from, (AROUND, ("{}", "({})"), READERS))
    ),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "synthetic.duckdb"
    store = SyntheticStore(path)
    store.create_table(Schema(columns=[Integer(name="n", min=0, max=9)]))
    job = store.open_job(Origin("r", "0", 0, 1.0, 1e-6, {}, {}), total=1)
    store.append(job.number, job.first_row, [{"n": 3}])
    return path


@settings(FEW, max_examples=120)
@given(SQL)
def test_any_sql_reads_the_table_or_is_refused(table: Path, sql: str) -> None:
    content, beside = table.read_bytes(), sorted(table.parent.iterdir())
    answer: Any = ""
    with suppress(ConfigError):
        answer = SyntheticStore(table).query(sql)
    assert table.read_bytes() == content and sorted(table.parent.iterdir()) == beside
    assert (
        "root" not in repr(answer)
        and "passwd" not in repr(answer)
        and not Path("/tmp/fuzzed-x").exists()
        and not Path("/tmp/fuzzed-y").exists()
    )


WHERE_WORDS = (
    "age price kind ok day at note nosuch = != < >= between and or not in ( ) ' \" 'a' 'b' 5 -1 1e400 null is true like % , "
    "'2020-02-30' '2020-02-03' select ; -- case when exists cast 9999999999999999999999 || + date interval"
)
WHERE = st.lists(st.sampled_from(WHERE_WORDS.split(" ")), max_size=10).map(" ".join)


@settings(FEW, max_examples=200)
@given(st.one_of(WHERE, st.text(max_size=30)))
def test_any_condition_is_understood_or_refused(text: str) -> None:
    with suppress(ConfigError):
        parse_where(text, SCHEMA)


# --- what others hand on


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)
PARTS = (
    "format",
    "summary",
    "guarantee",
    "not_covered",
    "ledger",
    "schema",
    "settings",
    "hashes",
    "versions",
    "seal",
    "signature",
)


@FEW
@given(
    document=st.one_of(JSON, st.fixed_dictionaries(dict.fromkeys(PARTS, JSON))),
    name=st.sampled_from(["c.json", "erasure.json"]),
)
def test_any_json_is_no_valid_certificate(tmp_path_factory: pytest.TempPathFactory, document: Any, name: str) -> None:
    place = tmp_path_factory.mktemp("certificate")
    (place / "c.json").write_text(json.dumps(document))
    (place / name).write_text(json.dumps(document))
    with suppress(LocalsynthError):
        assert not verify_file(place / "c.json", None)["valid"]


MARGINALS = Schema(columns=[Integer(name="age", min=0, max=9), Category(name="kind", values=["a", "b"]), Boolean(name="ok")])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[CertificateFacts, dict[str, Any]]:
    """What a certificate of marginals is made of, and the marginals."""
    directory = tmp_path_factory.mktemp("ledger")
    ledger = Ledger.open(directory / "ledger.json", directory / "head.json", "0123456789abcdef")
    privacy, rho = PrivacyConfig(public_size=500, delta=1e-6), rho_for(4.0, 1e-6)
    ledger.open_budget(
        "marginals", "r1", Account(4.0, 1e-6), limit=4.0, limit_delta=1e-6, basis=Basis("row", 1, size_declared=True)
    )
    ledger.charge(budget="marginals", run="r1", stage="train", what="marginals", mechanism=gaussian_of_rho(rho))
    domain = Domain.of_schema(MARGINALS)
    rows = [{"age": i % 10, "kind": "ab"[i % 2], "ok": i % 3 == 0} for i in range(500)]
    facts = CertificateFacts(
        noise_label=SECURE_LABEL,
        ledger=ledger.document(),
        schema=MARGINALS,
        settings={
            "train": TrainConfig().model_dump(mode="json"),
            "text_counts": TextCountsConfig().model_dump(mode="json"),
            "privacy": privacy.model_dump(mode="json"),
            "data": {"sequence_by": None},
        },
        hashes={"model": "", "marginals": "", "text_counts": "", "base_model": ""},
        versions={"localsynth": "0.1.0"},
        seal="namespace",
    )
    return facts, json.loads(json.dumps(measure_marginals(domain, domain.encode(rows), rho, SecureRandom()).to_json()))


def verified(facts: CertificateFacts, marginals: str, place: Path) -> bool:
    """Whether a certificate that names this very file of marginals holds beside it."""
    (place / "marginals.json").write_text(marginals, encoding="utf-8")
    hashes = {**facts.hashes, "marginals": file_sha256(place / "marginals.json")}
    (place / "certificate.json").write_text(json.dumps(build(dataclasses.replace(facts, hashes=hashes), None)))
    return bool(verify_file(place / "certificate.json", None)["valid"])


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    found = []
    for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
        found.append((tree, key))
        if isinstance(inner, dict | list):
            found += places(inner)
    return found


HOSTILE = st.one_of(
    st.sampled_from([1e-200, 1e200, 1e-320, -1, 0, 10**18, 10**400, "1", [], {}, [[]], [None], None, True, float("nan"), "xx"]),
    JSON,
)


@settings(FEW, max_examples=60)
@given(data=st.data())
def test_hostile_marginals_break_a_certificate_and_not_the_check(
    measured: tuple[CertificateFacts, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    facts, honest = measured
    place = tmp_path_factory.mktemp("marginals")
    tree = copy.deepcopy(honest)
    part = data.draw(st.sampled_from(sorted(tree)))
    container, key = data.draw(st.sampled_from(places({part: tree[part]})))
    if container.keys() == {part} if isinstance(container, dict) else False:
        container = tree
    before, container[key] = container[key], data.draw(HOSTILE)
    # What noise has made of the counts, and what was fitted to it, nobody can work out again.
    unknown = part in ("merged_bins", "measured", "potentials", "total") and type(container[key]) in (int, float, bool)
    valid = verified(facts, json.dumps(tree), place)
    assert not valid or unknown or container[key] == before


def test_honest_marginals_hold(measured: tuple[CertificateFacts, dict[str, Any]], tmp_path: Path) -> None:
    assert verified(measured[0], json.dumps(measured[1]), tmp_path)


@FEW
@given(document=st.one_of(JSON, st.text(max_size=30)))
def test_any_text_is_no_marginals(
    measured: tuple[CertificateFacts, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, document: Any
) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    assert not verified(measured[0], text, tmp_path_factory.mktemp("marginals"))


@FEW
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda more: b"GGUF\x03\0\0\0" + more)))
def test_any_bytes_are_no_certificate_and_no_model(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("model") / "model.Q8_0.gguf"
    path.write_bytes(content)
    with suppress(LocalsynthError):
        assert not verify_file(path, None)["valid"]
    with suppress(LocalsynthError):
        GgufFile(path)


def test_a_damaged_adapter_is_an_error_of_ours_or_the_same_adapter(tiny_model: Any, tmp_path: Path) -> None:
    write_adapter(tmp_path, random_adapter(tiny_model()), 4, 8)
    for name in ("adapter.json", "adapter.safetensors"):
        whole, r = (tmp_path / name).read_bytes(), random.Random(0)
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[r.randrange(min(len(whole), 3000))] ^= 1 << r.randrange(8)
            (tmp_path / name).write_bytes(damaged)
            with suppress(IntegrityError):
                read_adapter(tmp_path)
        (tmp_path / name).write_bytes(whole)
