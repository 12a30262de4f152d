"""The record of a run: what was planned and which stages are done. Public facts only.

A run is one adapter trained on one ingested table, and what was made of it. Its directory is runs/ID in the workspace.
"""

import datetime as dt
import hashlib
import re
import secrets
from pathlib import Path
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.system.files import file_sha256, read_json, write_json
from localsynth.workspace.paths import Workspace

__all__ = ["Run", "is_kept", "latest_run", "new_run"]

_STAGES = ("train", "export", "sample")
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


class Run:
    """`run.json` of one run, read and written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._facts: dict[str, Any] = read_json(directory / "run.json")

    @property
    def id(self) -> str:
        """The run's name; it begins with the number of the run."""
        return self.directory.name

    def __getitem__(self, key: str) -> Any:
        return self._facts[key]

    def get(self, key: str) -> Any:
        """A fact, or None."""
        return self._facts.get(key)

    def note(self, **facts: Any) -> None:
        """Add facts and write the record."""
        self._facts.update(facts)
        write_json(self.directory / "run.json", self._facts)

    @property
    def finished(self) -> bool:
        """Every stage is done."""
        return all(stage in self._facts for stage in _STAGES)

    @property
    def description(self) -> str:
        """The public line that stood before each row in training, whatever the configuration says by now."""
        return str(self["table"]["settings"]["data"]["description"])

    def model_path(self, quantization: str) -> Path:
        """The merged, quantized model."""
        return self.directory / f"model.{quantization}.gguf"

    def remove_other_models(self, kept: Path) -> None:
        """Remove the run's models but for `kept`: the certificate names one model, and another beside it would not be its."""
        for path in self.directory.glob("model.*.gguf"):
            if path != kept:
                path.unlink()

    @property
    def adapter_path(self) -> Path:
        """The directory of the trained adapter."""
        return self.directory / "adapter"

    @property
    def marginals_path(self) -> Path:
        """The fitted marginals, of a run that has some."""
        return self.directory / "marginals.json"

    def marginals_sha256(self) -> str:
        """The hash of the marginals as they lie there, in hex. Raises IntegrityError where they are missing."""
        if not self.marginals_path.is_file():
            raise IntegrityError(f"{self.marginals_path} is missing.", "Restore it from a backup, or train again.")
        return file_sha256(self.marginals_path)

    @property
    def by_marginals(self) -> bool:
        """Whether the rows of the run are drawn from marginals alone, and there is no model."""
        return bool(self["synthesizer"] == "marginals")

    @property
    def hybrid(self) -> bool:
        """Whether a model writes the texts of the run's rows, and the rest of them is drawn from marginals."""
        return bool(self["synthesizer"] == "hybrid")

    @property
    def product_path(self) -> Path:
        """What the run's rows are drawn from, once it is exported: the model, or the marginals."""
        return self.marginals_path if self.by_marginals else self.model_path(self["export"]["quantization"])

    def check_marginals(self) -> str:
        """The hash of the run's marginals, "" where it has none. Raises IntegrityError where they are not what was measured."""
        if self["synthesizer"] == "llm":
            return ""
        if self.marginals_sha256() != self["marginals_sha256"]:
            raise IntegrityError(
                f"{self.marginals_path} is not what run {self.id} measured.",
                "Put the file back, or train again with --again (that is charged again).",
            )
        return str(self["marginals_sha256"])

    @property
    def counts_texts(self) -> bool:
        """Whether a part of the run's budget is reserved for token counts of the original texts."""
        texts = any(column["kind"] == "text" for column in self["table"]["settings"]["schema"]["columns"])
        return texts and bool(self["settings"]["text_counts"]["share"] > 0)

    @property
    def text_counts_path(self) -> Path:
        """The token counts of the original texts, of a run that has some."""
        return self.directory / "text_counts.json"

    def text_counts_sha256(self) -> str:
        """The hash of the token counts as they lie there, in hex. Raises IntegrityError where they are missing."""
        if not self.text_counts_path.is_file():
            raise IntegrityError(f"{self.text_counts_path} is missing.", "Restore it from a backup, or train again.")
        return file_sha256(self.text_counts_path)

    def check_text_counts(self) -> str:
        """The hash of the run's token counts, "" where it has none. Raises IntegrityError where they are not what was counted."""
        if not self.get("text_counts_sha256"):
            return ""
        if self.text_counts_sha256() != self["text_counts_sha256"]:
            raise IntegrityError(
                f"{self.text_counts_path} is not what run {self.id} counted.",
                "Put the file back, or train again with --again (that is charged again).",
            )
        return str(self["text_counts_sha256"])

    def adapter_sha256(self) -> str:
        """The hash of the adapter's two files as they lie there, in hex. Raises IntegrityError where one is missing."""
        digest = hashlib.sha256()
        for name in ("adapter.json", "adapter.safetensors"):
            path = self.adapter_path / name
            if not path.is_file():
                raise IntegrityError(f"{path} is missing.", "Restore it from a backup, or train again.")
            digest.update(f"{name} {file_sha256(path)}\n".encode())
        return digest.hexdigest()

    @property
    def certificate_path(self) -> Path:
        """The run's certificate."""
        return self.directory / "certificate.json"

    def certificate(self) -> dict[str, Any]:
        """The certificate that was made of the exported run. Raises IntegrityError where what lies there is not it."""
        path, again = self.certificate_path, f"Make it anew, which charges nothing: localsynth export {self.directory.parents[1]}"
        if not path.is_file():
            raise IntegrityError(f"{path} is missing.", again)
        if file_sha256(path) != self["export"].get("certificate_sha256"):
            raise IntegrityError(f"{path} is not the certificate that run {self.id} was given.", again)
        document: dict[str, Any] = read_json(path)
        return document

    @property
    def audit_path(self) -> Path:
        """What the canary audit of the run's settings found; absent where none was made."""
        return self.directory / "audit.json"


def new_run(workspace: Workspace, facts: dict[str, Any]) -> Run:
    """Begin a run with these facts.

    Its name has the day and a number, not the time: it is published with the ledger, and the time from the start of training
    to that of the synthetic table depends on the private rows.
    """
    day = dt.datetime.now(dt.UTC).strftime("%Y%m%d")
    earlier = _NAME.fullmatch(_names(workspace)[-1]) if _names(workspace) else None
    last = int(earlier[1]) if earlier else 0
    directory = workspace.run_path(f"{last + 1:03d}-{day}-{secrets.token_hex(2)}")
    directory.mkdir(mode=0o700, parents=True)
    write_json(directory / "run.json", facts)
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
