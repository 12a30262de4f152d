"""The certificate of a run, and its verification."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localsynth.results.shown import html_table
from localsynth.system.files import read_json


@dataclass(frozen=True)
class Certificate:
    """What a run's certificate states.

    epsilon, delta  the guarantee
    spent           the epsilon that was spent of it
    summary         the guarantee in words
    not_covered     what it does not cover
    document        all of it, as in the file
    """

    path: Path
    epsilon: float
    delta: float
    spent: float
    summary: str = field(repr=False)
    not_covered: tuple[str, ...] = field(repr=False)
    document: dict[str, Any] = field(repr=False)

    @staticmethod
    def read(path: Path) -> "Certificate":
        """The certificate that a run wrote."""
        document = read_json(path)
        stated = document["guarantee"]
        figures = (stated["guaranteed_epsilon"], stated["spent_delta"], stated["spent_epsilon"])
        return Certificate(path, *figures, document["summary"], tuple(document["not_covered"]), document)

    def _repr_html_(self) -> str:
        rows = [("epsilon", f"{self.epsilon:.4g}"), ("delta", f"{self.delta:.2g}"), ("spent", f"{self.spent:.4g}")]
        return html_table(["", "certificate"], [*rows, ("in words", self.summary), ("not covered", " ".join(self.not_covered))])


@dataclass(frozen=True)
class Verification:
    """What `verify` found: whether the certificate is valid, the verdict in words, and each finding as (status, name, text)."""

    valid: bool
    verdict: str
    summary: str = field(repr=False)
    findings: tuple[tuple[str, str, str], ...] = field(repr=False)

    def _repr_html_(self) -> str:
        return html_table(["", "what", "finding"], self.findings, self.verdict)


def verify(path: str | Path, *, key: str | None = None, table: str | Path | None = None) -> Verification:
    """Check a certificate, or a model that carries one: the accounting, hashes and signature. Needs no private data.

    key    the signer's fingerprint, if you know it
    table  an exported table, with its manifest beside it, to be tied to the certificate
    Raises LocalsynthError where there is no certificate.
    """
    from localsynth.verification.file import verify_file

    report = verify_file(Path(path), key, Path(table) if table else None)
    findings = tuple((each["status"], each["name"], each["text"]) for each in report["findings"])
    return Verification(report["valid"], report["verdict"], report["summary"], findings)
