"""The record of a run: its settings, its plan, and which stages are done.

A run is one model (or one set of marginals) learned from one ingested table. Its directory is runs/ID in the workspace.
"""

import datetime as dt
import hashlib
import re
import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import field_serializer

from localsynth.config import MACHINES_PART, Config, PrivacyConfig, TextCountsConfig, TrainConfig
from localsynth.errors import IntegrityError
from localsynth.system.files import file_sha256, read_json
from localsynth.workspace.effective_schema import Effective, IngestRecord
from localsynth.workspace.paths import Workspace
from localsynth.workspace.record import Record

_KEPT = (
    "run.json",
    "certificate.json",
    "events.jsonl",
    "adapter",
    "marginals.json",
    "text_counts.json",
    "audit.json",
    "report-release.html",
    "report-release.json",
)
_NAME = re.compile(r"([0-9]{3,})-.*")


class RunData(Record):
    """The part of the data settings that decides how rows are learned."""

    sequence_by: str | None


class RunSettings(Record):
    """The settings of a run, as they were when it began."""

    train: TrainConfig
    text_counts: TextCountsConfig
    privacy: PrivacyConfig
    data: RunData

    @staticmethod
    def of(config: Config) -> "RunSettings":
        """The settings of a run under this configuration, without those that only suit the machine."""
        train = TrainConfig(**config.train.model_dump(exclude=set(MACHINES_PART)))
        data = RunData(sequence_by=config.data.sequence_by)
        return RunSettings(train=train, text_counts=config.text_counts, privacy=config.privacy, data=data)

    @field_serializer("train")
    def _without_the_machines_part(self, train: TrainConfig) -> dict[str, Any]:
        return train.model_dump(mode="json", exclude=set(MACHINES_PART))


class ModelPlan(Record):
    """How the model is trained, fixed before a row is read."""

    plan: dict[str, Any]
    """The fields of a `TrainPlan`."""
    targets: list[str]
    """The adapted layers."""
    micro_batch_tokens: int
    base_sha256: str


class MarginalsOutcome(Record):
    """The marginals as they were measured."""

    sha256: str
    measured: int
    """Noisy tables and choices."""


class TrainOutcome(Record):
    """A finished training, without its duration and memory: those depend on the private rows."""

    steps: int
    precision: str
    noise: str
    """The label of the noise's source, for the certificate."""
    seal: str
    versions: dict[str, str]
    """Of Python and the libraries that took part."""
    adapter_sha256: str | None = None


class ExportOutcome(Record):
    """The exported model, or the marginals, with its certificate."""

    quantization: str | None
    """None: there is no model, and rows are generated from marginals."""
    kl: float | None = None
    shift: float | None = None
    size_bytes: int
    seconds: float | None = None
    model_hash: str
    """Of the model, or of the marginals."""
    signed: bool
    certificate_sha256: str


class TextCountsOutcome(Record):
    """The token counts, once the certificate covers them."""

    tokens: int
    """Tokens with a logit bias."""
    columns: list[str]
    """The grouping columns."""


class SampleOutcome(Record):
    """The synthetic table as the last sampling left it."""

    rows: int
    rejected: int
    seconds: float


class RunRecord(Record):
    """`run.json`: the settings of a run, and the outcome of each stage that is done. Public facts only."""

    synthesizer: Literal["hybrid", "llm", "marginals"]
    settings: RunSettings
    table: IngestRecord
    """The ingest that the run learned from. The table may be ingested again later."""
    budget: str | None = None
    """The ingest's budget in the ledger, where the run spends from it; None: from one of its own, named by its id."""
    model: ModelPlan | None = None
    reruns: int = 0
    """How often the run was resumed."""
    marginals: MarginalsOutcome | None = None
    train: TrainOutcome | None = None
    export: ExportOutcome | None = None
    text_counts_sha256: str | None = None
    text_counts: TextCountsOutcome | None = None
    sample: SampleOutcome | None = None


class Run:
    """One run: its directory, and its record as it was read or last written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = RunRecord.read(directory / "run.json")
        self.adapter_path = directory / "adapter"
        """The directory of the trained adapter."""
        self.marginals_path = directory / "marginals.json"
        """The fitted marginals, of a run that has some."""
        self.text_counts_path = directory / "text_counts.json"
        """The token counts of the original texts, of a run that has some."""
        self.certificate_path = directory / "certificate.json"
        self.audit_path = directory / "audit.json"
        """What the canary audit of the run's settings found; absent where none was made."""

    @property
    def id(self) -> str:
        """The run's name; it begins with the number of the run."""
        return self.directory.name

    def note(self, **facts: Any) -> None:
        """Replace fields of the record and write it."""
        self.record = RunRecord.model_validate({**dict(self.record), **facts})
        self.record.write(self.directory / "run.json")

    @property
    def budget(self) -> str:
        """The name of the budget that the run spends from."""
        return self.record.budget or self.id

    @property
    def settings(self) -> RunSettings:
        return self.record.settings

    @property
    def effective(self) -> Effective:
        """The effective schema and the public size of the table that the run learned from."""
        return self.record.table.effective

    @property
    def model(self) -> ModelPlan:
        """How the model is trained, of a run that has one."""
        assert self.record.model is not None
        return self.record.model

    @property
    def training(self) -> TrainOutcome:
        """The outcome of the training, of a run that is trained."""
        assert self.record.train is not None
        return self.record.train

    @property
    def exported(self) -> ExportOutcome:
        """The outcome of the export, of a run that is exported."""
        assert self.record.export is not None
        return self.record.export

    @property
    def finished(self) -> bool:
        """Every stage is done."""
        return None not in (self.record.train, self.record.export, self.record.sample)

    @property
    def description(self) -> str:
        """The public line that stood before each row in training, whatever the configuration says now."""
        return self.record.table.settings.data.description

    def model_path(self, quantization: str) -> Path:
        """The merged, quantized model."""
        return self.directory / f"model.{quantization}.gguf"

    def remove_other_models(self, kept: Path) -> None:
        """Remove the run's models except `kept`: the certificate names one model, and another beside it would not be its."""
        for path in self.directory.glob("model.*.gguf"):
            if path != kept:
                path.unlink()

    @property
    def by_marginals(self) -> bool:
        """Whether the run's rows are generated from marginals alone, without a model."""
        return self.record.synthesizer == "marginals"

    @property
    def hybrid(self) -> bool:
        """Whether a model generates the texts of the run's rows, and marginals the other columns."""
        return self.record.synthesizer == "hybrid"

    @property
    def product_path(self) -> Path:
        """What the run's rows are generated from, once it is exported: the model, or the marginals."""
        quantization = self.exported.quantization
        return self.marginals_path if quantization is None else self.model_path(quantization)

    def check_marginals(self) -> str:
        """The hash of the run's marginals, "" where it has none. Raises IntegrityError where they are not what was measured."""
        if self.record.synthesizer == "llm":
            return ""
        assert self.record.marginals is not None
        return self._check(self.marginals_path, self.record.marginals.sha256, "measured")

    @property
    def counts_texts(self) -> bool:
        """Whether a part of the run's budget is reserved for token counts of the original texts."""
        texts = any(column.kind == "text" for column in self.record.table.schema_.columns)
        return texts and self.settings.text_counts.share > 0

    def check_text_counts(self) -> str:
        """The hash of the run's token counts, "" where it has none. Raises IntegrityError where they are not what was counted."""
        expected = self.record.text_counts_sha256
        return self._check(self.text_counts_path, expected, "counted") if expected is not None else ""

    def _check(self, path: Path, expected: str, learned: str) -> str:
        if _sha256(path) != expected:
            raise IntegrityError(
                f"{path} is not what run {self.id} {learned}.",
                "Put the file back, or train again with --again (that is charged again).",
            )
        return expected

    def adapter_sha256(self) -> str:
        """The hash of the adapter's two files, in hex. Raises IntegrityError where one is missing."""
        digest = hashlib.sha256()
        for name in ("adapter.json", "adapter.safetensors"):
            digest.update(f"{name} {_sha256(self.adapter_path / name)}\n".encode())
        return digest.hexdigest()

    def certificate(self) -> dict[str, Any]:
        """The certificate that was made of the exported run. Raises IntegrityError where what lies there is not it."""
        again = f"Make it again, which charges nothing: localsynth export {self.directory.parents[1]}"
        path = self.certificate_path
        if not path.is_file():
            raise IntegrityError(f"{path} is missing.", again)
        if file_sha256(path) != self.exported.certificate_sha256:
            raise IntegrityError(f"{path} is not the certificate that run {self.id} was given.", again)
        document: dict[str, Any] = read_json(path)
        return document


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise IntegrityError(f"{path} is missing.", "Restore it from a backup, or train again.")
    return file_sha256(path)


def new_run(workspace: Workspace, record: RunRecord) -> Run:
    """Begin a run.

    Its name has the day and a number, not the time: it is published with the ledger, and the duration from the start of
    training to the synthetic table depends on the private rows.
    """
    day = dt.datetime.now(dt.UTC).strftime("%Y%m%d")
    earlier = _NAME.fullmatch(_names(workspace)[-1]) if _names(workspace) else None
    last = int(earlier[1]) if earlier else 0
    directory = workspace.run_path(f"{last + 1:03d}-{day}-{secrets.token_hex(2)}")
    directory.mkdir(mode=0o700, parents=True)
    record.write(directory / "run.json")
    return Run(directory)


def is_kept(path: Path) -> bool:
    """Whether a file or directory of a run is of the finished, public side: its record, adapter, model or certificate.

    Everything else there (a checkpoint, a part of a file, a report) is erased with the original rows.
    """
    return path.name in _KEPT or path.match("model.*.gguf")


def _names(workspace: Workspace) -> list[str]:
    if not workspace.runs_path.is_dir():
        return []
    names = [path.name for path in workspace.runs_path.iterdir() if (path / "run.json").is_file()]
    # The number first: as text, 1000 would come before 999.
    return sorted(names, key=lambda name: (int(match[1]) if (match := _NAME.fullmatch(name)) else 0, name))


def latest_run(workspace: Workspace) -> Run | None:
    """The newest run, or None."""
    names = _names(workspace)
    return Run(workspace.run_path(names[-1])) if names else None
