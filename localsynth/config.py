"""`localsynth.toml`: the one file a person edits.

Flags win over the file, the file over the defaults below. An unknown key is an error that names the nearest known one.
`init` writes it with comments.
"""

import difflib
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Identifier, Schema, Surrogate, Text

Synthesizer = Literal["hybrid", "llm", "marginals"]

DATA_FRAME = "<data frame>"
"""`data.source` of a table that was given in memory, by the Python API."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where the original table comes from."""

    source: str
    """The file, as a path: absolute, or from the directory in which the command is started. A directory of Parquet files
    is one table; a .zip with one file, or a .zst, is unpacked in memory."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "duckdb", "excel", "spss", "sas", "stata", "sqlite", "arrow"] = (
        "auto"
    )
    """auto: by the name of the file."""
    table: str | None = None
    """The table inside a DuckDB or SQLite file, or the sheet of an Excel workbook."""
    encoding: str = "utf-8"
    """The text encoding of a CSV or TSV file, or of one of SPSS, SAS or Stata that names none or a wrong one."""
    header: bool | None = None
    """Whether the first line of a CSV or TSV file names the columns. None: it does, and is refused where it looks like data;
    false: it is a row of data, and the columns are called column_1, column_2, ..."""
    quote: Literal['"', "'", ""] = '"'
    """The sign around fields of a CSV or TSV file that contain the delimiter; "": none, and quotes are ordinary characters."""
    comment: str | None = Field(default=None, min_length=1, max_length=3)
    """Lines of a CSV or TSV file that begin with this sign are skipped, e.g. "#"."""
    skip_lines: int = Field(default=0, ge=0)
    """Lines before the names of the columns in a CSV or TSV file, or in a sheet."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """What to do where rows of the file cannot be read: refuse the table, and name them; or leave these rows out."""
    columns: list[str] | None = Field(default=None, min_length=1)
    """The columns to use, where not all of the source's are wanted."""
    missing: list[str] = Field(default_factory=lambda: [""])
    """Strings that mean "no value"."""
    sequence_by: str | None = None
    """The column by which the rows of a unit are ordered: a date, a moment, a number or an identifier.
    They are then learned and generated as a sequence. None: each row by itself."""
    description: str = ""
    """One public line on what the table is about, e.g. "Text messages"; it helps the model and must not hold private data."""


class PrivacyConfig(_Section):
    """What is promised, and to whom."""

    epsilon: float = Field(default=4.0, gt=0, le=100)
    """The target: the most that one run may spend. Smaller protects more and keeps less."""
    delta: float | None = Field(default=None, gt=0, lt=0.1)
    """None: min(1e-5, public_size ** -1.1), and 1e-6 where no public size is declared."""
    unit: str = "row"
    """ "row", or the column that says whose row it is (a patient number)."""
    max_rows_per_unit: int = Field(default=1, ge=1, le=1000)
    """A unit's rows beyond this many are dropped at random."""
    public_size: int | None = Field(default=None, ge=1)
    """How many units the table has, where that is public knowledge; otherwise it is measured under DP."""
    schema_epsilon: float | None = Field(default=None, gt=0)
    """Epsilon of measuring bounds and category lists, as if alone; None: a quarter of epsilon."""
    holdout: float = Field(default=0.1, ge=0, lt=0.9)
    """Probability with which each unit is held out for the evaluation."""

    @property
    def rows_per_unit(self) -> int:
        """The maximum number of a unit's rows that are used; 1 where the unit is a row."""
        return 1 if self.unit == "row" else self.max_rows_per_unit

    @property
    def resolved_delta(self) -> float:
        """δ of the whole run; where none is declared, 1e-6, or from the public size. Depends on public facts only."""
        if self.delta is not None:
            return self.delta
        return 1e-6 if self.public_size is None else min(1e-5, math.pow(self.public_size, -1.1))


MACHINES_PART = frozenset({"device", "precision", "micro_batch_tokens"})
"""Keys of `TrainConfig` that depend on the machine. A run can resume with others: they change only its rounding."""


class TrainConfig(_Section):
    """How the model learns."""

    synthesizer: Literal["auto", "hybrid", "llm", "marginals"] = "auto"
    """marginals: DP marginals of all columns; no texts. llm: the language model generates whole rows.
    hybrid: marginals for the structured columns, then the model generates the texts. auto: hybrid for texts with other
    columns, llm for texts alone, marginals without texts."""
    marginals_share: float = Field(default=0.2, gt=0, lt=1)
    """hybrid: the marginals are measured as if alone with this part of epsilon and delta; the model gets what is left."""
    model: str = "smollm2-135m-instruct"
    """The base model: a name from `localsynth models list`, or the path of a GGUF file."""
    epochs: float = Field(default=4.0, gt=0, le=1000)
    """How often a unit is in a batch, on average. More epochs add noise and take longer (docs/lab/adapters.md)."""
    batch_size: int | None = Field(default=None, ge=1)
    """Expected number of units in a step; None: from the size of the table."""
    learning_rate: float = Field(default=0.02, gt=0, le=1)
    """The highest learning rate of AdamW, before a cosine decay. Higher than usual without DP (docs/lab/adapters.md)."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The L2 norm to which each unit's gradient is clipped."""
    rank: int = Field(default=4, ge=1, le=256)
    """Of the LoRA adapters. A higher rank has more parameters with noise."""
    alpha: int = Field(default=16, ge=1)
    """The adapter is scaled by alpha / rank."""
    micro_batch_tokens: int | None = Field(default=None, ge=64)
    """Tokens in a micro-batch (the physical batch): a larger one takes more memory and changes only the rounding.
    None: as many as are fast and fit into half of the memory, or most of a GPU's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto: on CUDA where there is a GPU."""
    precision: Literal["auto", "bf16", "fp32", "nf4"] = "auto"
    """Of the base model's weights; auto: nf4 on CUDA, bf16 on a processor that multiplies it (AVX512-BF16, AMX), else fp32."""

    def resolved(self, schema: Schema) -> Synthesizer:
        """`synthesizer` with "auto" resolved by the columns. Raises ConfigError where they do not allow the chosen one."""
        texts, chosen = text_columns(schema), self.synthesizer
        structured = len(texts) < len(schema.learned())
        if chosen == "marginals" and texts:
            raise ConfigError(
                f"Marginals cannot generate text, and {texts[0]!r} is a text column.",
                'Set train.synthesizer = "auto", or leave the column out with data.columns.',
            )
        if chosen == "hybrid" and not (texts and structured):
            missing = "other column" if texts else "text column"
            raise ConfigError(
                f'train.synthesizer = "hybrid" needs text columns and others, and there is no {missing}.',
                'Set train.synthesizer = "auto".',
            )
        if chosen == "auto":
            return "hybrid" if texts and structured else "llm" if texts else "marginals"
        return chosen


class TextCountsConfig(_Section):
    """A noisy token histogram of the original texts, which becomes a logit bias of the model when rows are generated."""

    share: float = Field(default=0.2, ge=0, lt=1)
    """It is measured as if alone with this part of what the marginals leave. 0: nothing is counted."""


class SampleConfig(_Section):
    """How synthetic rows are generated."""

    rows: int | None = Field(default=None, ge=1)
    """None: as many as the original has units, by the public or measured size; with data.sequence_by as many as
    these units have rows, by the noisy counts."""
    quantization: Literal["auto", "BF16", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"] = "auto"
    """auto: BF16 for a small model on a processor that multiplies it, which decodes fastest there; else Q8_0."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    """1: as the model learned. Lower: more frequent values, less variety than the original."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample only from the likeliest tokens that together have this probability."""
    guidance: float = Field(default=0.3, ge=0, le=2)
    """hybrid: strength of classifier-free guidance towards the row's values; 0: none, twice as fast. A little links
    texts to their rows, much makes them alike. Costs no privacy. Set 0 from 12 epochs on (docs/lab/guidance.md)."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Seed of the sampler only. Sampling from the finished model costs no privacy, so it may be known."""
    batch_size: int | None = Field(default=None, ge=1, le=255)
    """Rows generated at a time; None: as many as fit into an eighth of the memory.
    With guidance each takes twice the memory, at most 127."""
    threads: int | None = Field(default=None, ge=1)
    """None: one for each physical core."""
    gpu_layers: int | None = Field(default=None, ge=-1)
    """Layers on the GPU, -1 for all; None: all with a GPU build of llama.cpp, none without."""
    candidates: int = Field(default=8, ge=1, le=255)
    """For a row under conditions: how many prefixes are generated, to choose one by how well it fits them."""
    chunk_rows: int = Field(default=100, ge=1)
    """Minimum number of rows in a transaction."""


class EvaluateConfig(_Section):
    """The report on the synthetic rows."""

    report: bool = True
    """Whether `localsynth run` ends with a report. It reads the original table, and is private."""
    target: str | None = None
    """The column that is to be predicted from others; None: guessed, and said. Set before a run, marginals prefer its pairs."""
    quasi_identifiers: list[str] | None = None
    """Columns that others may know of a person (a birth date, a postal code, the sex); None: guessed, and said."""


class Config(_Section):
    """The whole of `localsynth.toml`."""

    data: DataConfig
    schema_: Schema = Field(alias="schema")
    privacy: PrivacyConfig = PrivacyConfig()
    train: TrainConfig = TrainConfig()
    text_counts: TextCountsConfig = TextCountsConfig()
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @property
    def synthesizer(self) -> Synthesizer:
        """`train.synthesizer` with "auto" resolved by the columns.

        Raises ConfigError where the columns do not allow the chosen one, or as `check_sequence`.
        """
        self.check_sequence()
        return self.train.resolved(self.schema_)

    @property
    def counts_texts(self) -> bool:
        """Whether the tokens of the original texts are counted, with noise."""
        return bool(text_columns(self.schema_)) and self.text_counts.share > 0

    def check_sequence(self) -> None:
        """Raise ConfigError where data.sequence_by cannot order the rows of a unit."""
        name, unit = self.data.sequence_by, self.privacy.unit
        if name is None:
            return
        columns = {column.name: column for column in self.schema_.columns}
        if unit == "row":
            raise ConfigError("data.sequence_by needs a unit with several rows.", "Set privacy.unit to the unit column.")
        if self.privacy.max_rows_per_unit < 2:
            raise ConfigError("A sequence has more than one row.", "Raise privacy.max_rows_per_unit.")
        if name not in columns or name == unit:
            raise ConfigError(
                f"data.sequence_by: {name!r} is not a column that can order the rows of a unit.",
                f"Columns: {', '.join(columns)}.",
            )
        if isinstance(columns[name], Text | Category | Boolean | Surrogate):
            raise ConfigError(
                f"data.sequence_by: a column of kind {columns[name].kind} has no order.",
                "Name a date, a datetime, an integer, a number or an identifier.",
            )
        if unit in columns and not isinstance(columns[unit], Identifier | Surrogate):
            raise ConfigError(
                f"Each synthetic unit gets a new value of {unit!r}, but that column is learned (kind {columns[unit].kind}).",
                'Set its kind = "identifier" in the schema.',
            )
        texts = text_columns(self.schema_)
        if texts or self.train.synthesizer == "llm":
            raise ConfigError(
                "Sequences are generated from marginals, which cannot generate text"
                + (f", and {texts[0]!r} is a text column." if texts else ', but train.synthesizer is "llm".'),
                'Leave text columns out with data.columns and set train.synthesizer = "auto", or leave out data.sequence_by.',
            )


def text_columns(schema: Schema) -> list[str]:
    """The names of the texts that are learned."""
    return [column.name for column in schema.learned() if isinstance(column, Text)]


def _known_keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _nearest(location: tuple[int | str, ...]) -> str:
    model: Any = Config
    for part in location[:-1]:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        annotation = field.annotation if field is not None else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        model = annotation
    known = _known_keys(model)
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known here: {', '.join(known)}."


def _explain(error: ValidationError, where: str) -> ConfigError:
    first = error.errors(include_url=False, include_input=False)[0]
    location = tuple(part for part in first["loc"] if part not in ("Schema",))
    dotted = ".".join(str(part) for part in location) or "the file"
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{where}: unknown key '{dotted}'.", _nearest(location))
    if first["type"] == "missing":
        return ConfigError(f"{where}: '{dotted}' is missing.", "Add it, or make the workspace again with `localsynth init`.")
    text = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{where}: '{dotted}': {text}.", f"Correct it in {where}.")


def _apply(tree: dict[str, Any], assignment: str) -> None:
    path, found, raw = assignment.partition("=")
    keys = path.strip().split(".")
    if not found or len(keys) < 2 or not all(keys):
        raise ConfigError(f"--set {assignment!r} is not of the form section.key=value.", "Example: --set privacy.epsilon=8")
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {assignment!r}: {key!r} is not a section.")
    tree[keys[-1]] = read_value(raw)


def read_value(text: str) -> Any:
    """A value as it is given on the command line: in TOML, or a string without its quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def value_of(config: Config, key: str) -> Any:
    """The value of "section.key", as JSON has it; the default where the file has none. Raises ConfigError for an unknown key."""
    value: Any = config.model_dump(mode="json", by_alias=True)
    names = key.split(".")
    for place, name in enumerate(names, 1):
        if not isinstance(value, dict) or name not in value:
            raise ConfigError(f"There is no key '{key}'.", _nearest(tuple(names[:place])))
        value = value[name]
    return value


def with_settings(text: str, settings: Mapping[str, Any]) -> str:
    """The text of a configuration with other values of "section.key"; its comments stay. Raises ConfigError for another key."""
    document = tomlkit.parse(text)
    for key, value in settings.items():
        section, dot, name = key.partition(".")
        if not dot:
            raise ConfigError(f"The setting {key!r} names no section.", "Example: train.epochs")
        if section not in document:
            document.add(section, tomlkit.table())
        document[section][name] = value
    return tomlkit.dumps(document)


def parse_config(text: str, where: str, overrides: list[str] | None = None) -> Config:
    """The configuration in `text` with `overrides` ("section.key=value") applied. Raises ConfigError naming `where`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}.", "Correct that line; strings need quotes.") from None
    for assignment in overrides or []:
        _apply(tree, assignment)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, where) from None
    _check_origins(tree["schema"]["columns"], where)
    if config.schema_.constraints:
        from localsynth.schema.feasible import check_constraints

        check_constraints(config.schema_)
    return config


def _check_origins(columns: list[dict[str, Any]], where: str) -> None:
    """Refuse columns copied out of schema.json: a bound that claims to be measured would not be listed as declared."""
    for column in columns:
        if "measured" in column:
            raise ConfigError(
                f"{where}: column {column['name']!r}: only localsynth writes `measured`.",
                "Remove it; bounds you write yourself are declared.",
            )


def data_config(values: dict[str, Any]) -> DataConfig:
    """What `init` was told about the source. Raises ConfigError."""
    try:
        return DataConfig.model_validate(values)
    except ValidationError as error:
        raise _explain(error, "init") from None


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """`parse_config` of a file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent} is not a workspace: it has no {path.name}.",
            f"Make one with: localsynth init {path.parent} --data FILE",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.", "Save it as UTF-8.") from None
    return parse_config(text, str(path), overrides)


_HEADER = """\
# localsynth: the table, its schema, and what is promised.
# Everything here is public, and the schema is copied into the certificate: do not write private values into it.
# Change what you know better, then: localsynth plan {workspace}
"""

_PRIVACY = """\
# The promise. A smaller epsilon protects more and keeps less: 1 is strong, 8 is common for text, above 10 says little.
epsilon = 4.0
# Who is protected: "row" (each row is another person), or the column that says whose row it is.
unit = "row"
# With a column, also how many of a unit's rows are used at most (more rows, more noise), e.g. max_rows_per_unit = 5. To keep
# the order of a unit's rows too, name the column it follows from in [data], e.g. sequence_by = "date".
# If the number of units is public knowledge, write it here; otherwise it is measured, at a small cost.
# public_size = 10000
"""

_SCHEMA_NOTE = """\
# Inferred from the first rows, corrected by further rows (up to 3 million values). One row can decide: check all.
# Kinds: category, integer, number, boolean, date, datetime, time, text, identifier (not learned, numbered from 1),
# surrogate (not learned, fake values; of = name | email | phone | address | ip | ipv6),
# derived (not learned, calculated; formula = "net + tax", or "year(arrival) - year(born)").
# A format says how the file writes a column, and how the synthetic table will: "1.234,5 €", "%d.%m.%Y", "Y/N", "INV-#####".
# Where min/max or values are missing, they are measured under differential privacy. If you know them from
# public sources (a code book), declare them: that costs nothing. Example: values = ["ham", "spam"]
# Where texts go with codes, describe these for the model: descriptions = {J45 = "asthma"}
# What holds in every row, and is public knowledge, e.g. (before the first [[schema.columns]]):
# constraints = ["discharge >= admission", "pregnant = true => sex = 'F'"]
# After checking kinds, decimals, formats, nullable and max_tokens, set confirmed = true.
"""


def render_config(data: DataConfig, schema: Schema, workspace: str) -> str:
    """The commented `localsynth.toml` that `init` writes."""
    document = tomlkit.document()
    document.add(tomlkit.nl())
    section = tomlkit.table()
    for key, value in data.model_dump(exclude_defaults=True).items():
        section.add(key, value)
    document.add("data", section)
    columns = tomlkit.aot()
    for column in schema.columns:
        table = tomlkit.table()
        for key, value in {"name": column.name, "kind": column.kind, **column.model_dump(exclude_defaults=True)}.items():
            table.add(key, value)
        if isinstance(column, Text) and "max_tokens" not in table:
            # It is to be checked, so it is shown; as a comment, which does no harm where the kind is changed.
            table.add(tomlkit.comment(f"max_tokens = {column.max_tokens}  # longer values are cut off"))
        columns.append(table)
    rest = tomlkit.table()
    rest.add("confirmed", schema.confirmed)
    if schema.constraints:
        rest.add("constraints", schema.constraints)
    rest.add("columns", columns)
    document.add("schema", rest)
    body = tomlkit.dumps(document).lstrip("\n")
    head, _, tail = body.partition("[schema]\n")
    # In a comment a line break would begin a key, and TOML allows no other control character there.
    shown = "".join(character if character.isprintable() else "?" for character in workspace)
    text = _HEADER.format(workspace=shown) + "\n" + head + "[privacy]\n" + _PRIVACY + "\n[schema]\n" + _SCHEMA_NOTE + tail
    return text + "\n"
