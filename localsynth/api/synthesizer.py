"""A workspace with a table's generator: plan, fit, sample, evaluate, erase."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localsynth.api.calls import call, csv_passed_on, passed_on
from localsynth.api.certificate import Certificate
from localsynth.api.report import Report
from localsynth.api.rows import Rows
from localsynth.api.schema import Schema
from localsynth.config import DATA_FRAME, Config, load_config, parse_config, render_config, with_settings
from localsynth.errors import ConfigError
from localsynth.results.plans import Plan, RehearsalResult, Sweep
from localsynth.results.stages import EvaluateResult, FitResult, SampleResult
from localsynth.workspace.paths import Workspace


class Synthesizer:
    """The synthetic table of a workspace, as the command line knows it too: a directory that holds everything."""

    def __init__(
        self,
        workspace: str | Path,
        schema: Schema,
        *,
        epsilon: float = 4.0,
        unit: str = "row",
        max_rows_per_unit: int = 1,
        settings: Mapping[str, Any] | None = None,
        passphrase: str | None = None,
    ) -> None:
        """Make the workspace, or open it where it was made with the same arguments, as when a cell is run twice.

        epsilon            the target: the most that one fit may spend
        unit               who is protected: "row", or the column that says whose row it is
        max_rows_per_unit  a unit's rows beyond this many are left out at random
        settings           other keys of localsynth.toml, e.g. {"train.epochs": 8, "data.sequence_by": "date"}
        passphrase         protects the key of the original rows; kept by this object only

        Raises ConfigError: a setting is unusable, or the workspace was made with other ones.
        """
        self._workspace, self._passphrase = Workspace(Path(workspace), passphrase), passphrase
        given = {"privacy.epsilon": float(epsilon), "privacy.unit": unit, "privacy.max_rows_per_unit": max_rows_per_unit}
        text = with_settings(render_config(schema.data, schema.columns, str(workspace)), {**given, **(settings or {})})
        wanted = parse_config(text, "the arguments")
        if not self._workspace.config_path.exists():
            from localsynth.pipeline.init import new_workspace

            new_workspace(self._workspace.root, text, passphrase)
        elif self._config() != wanted:
            raise ConfigError(
                f"{workspace} is a workspace with another schema or other settings.",
                "Open it as it is with localsynth.open, or choose another directory.",
            )

    def __repr__(self) -> str:
        return f"Synthesizer({str(self._workspace.root)!r}, epsilon={self._config().privacy.epsilon:g})"

    @property
    def path(self) -> Path:
        """The directory of the workspace."""
        return self._workspace.root

    @property
    def schema(self) -> Schema:
        """The schema as declared, without what was measured."""
        config = self._config()
        return Schema(config.schema_, config.data)

    def plan(self, rows: int | None = None) -> Plan:
        """What a fit would spend, and how long it and `rows` rows would take. Spends nothing and reads no row."""
        return call(Plan, "plan", self._request(rows=rows))

    def sweep(self) -> Sweep:
        """What epsilons from 0.5 to 16 buy, from public figures alone."""
        return call(Sweep, "plan", self._request(sweep=True))

    def rehearse(self, rows: int = 40) -> RehearsalResult:
        """Everything on random rows of the schema: time, memory and the form of the rows. Spends nothing, reads no row."""
        return call(RehearsalResult, "rehearse", self._request(rows=rows))

    def fit(self, data: Any = None, *, again: bool = False) -> FitResult:
        """Read the table into the encrypted store, and learn it under differential privacy; resumes what was interrupted.

        data   a data frame or Arrow table; may be left out where the schema was inferred from a file, which is read then
        again  fit once more, which is charged on top

        Raises ConfigError: it is fitted already, and not `again`, or a data frame is missing.
        """
        if data is not None and self._is_path(data):
            data = None
        with passed_on(data) as (frame, inherited):
            request = self._request(again=again, frame=frame)
            return call(FitResult, "fit", {**request, "passphrase": self._passphrase}, inherited)

    def sample(self, n: int | None = None, *, where: str | None = None, balance: str | None = None, like: Any = None) -> Rows:
        """Generate `n` more synthetic rows, which costs no privacy; these rows. They are added to the workspace's table.

        where    SQL that every row meets, e.g. "age >= 65 AND triage = 2"
        balance  the column over whose values the rows are spread evenly, or shares, e.g. "sex=F:0.7,M:0.3"
        like     a pandas DataFrame, or the path of a CSV, with values for some columns: one row for each of its rows, and no n

        Raises ConfigError: nothing is fitted, or rows cannot be so.
        """
        if (n is None) == (like is None):
            raise ConfigError("The number of rows is missing, or said twice.", "Give n, or like, whose rows are counted.")
        with csv_passed_on(like) as (seeds, inherited):
            request = self._request(more=n, where=where, balance=balance, seeds=seeds)
            done = call(SampleResult, "sample", request, inherited)
        return Rows(self._workspace.synthetic_path, done.rows - done.new_rows, done.new_rows)

    def rows(self) -> Rows:
        """All synthetic rows of the workspace."""
        from localsynth.store.synthetic import SyntheticStore

        path = self._workspace.synthetic_path
        return Rows(path, 0, SyntheticStore(path).row_count())

    def evaluate(self, target: str | None = None, *, release: bool = False) -> Report:
        """Compare the synthetic rows with the original ones and attack them. The report is private, unless it is for `release`.

        target  the column to predict from the others; chosen if not given
        """
        request = self._request(target=target, release=release)
        done = call(EvaluateResult, "evaluate", {**request, "passphrase": self._passphrase})
        return Report(Path(done.report), Path(done.report_json), not release)

    @property
    def certificate(self) -> Certificate:
        """The certificate of the newest fit. Raises ConfigError where there is none."""
        from localsynth.workspace.runs import latest_run

        latest = latest_run(self._workspace)
        if latest is None or not latest.certificate_path.exists():
            raise ConfigError("Nothing is fitted yet.", "Call fit first.")
        return Certificate.read(latest.certificate_path)

    def erase(self, *, keep_report: bool = False) -> None:
        """Destroy the key of the original rows, and remove everything private. Cannot be undone."""
        from localsynth.pipeline.erase import erase

        erase(self._workspace, keep_report)

    def _config(self) -> Config:
        return load_config(self._workspace.config_path)

    def _is_path(self, data: Any) -> bool:
        """Whether `data` is the path from which the schema was inferred. Raises ConfigError for another path."""
        if not isinstance(data, str | os.PathLike):
            return False
        source = self._config().data.source
        if source == DATA_FRAME or Path(data).expanduser().absolute() != Path(source):
            raise ConfigError(
                f"The schema was inferred from {source}, not from {data}.", "Infer the schema from the file to be fitted."
            )
        return True

    def _request(self, **options: Any) -> dict[str, Any]:
        return {"workspace": str(self._workspace.root), "overrides": [], "options": options}


def open(workspace: str | Path, *, passphrase: str | None = None) -> Synthesizer:
    """An existing workspace, made here, by the command line or in the terminal UI. Raises ConfigError where there is none."""
    opened = Synthesizer.__new__(Synthesizer)
    opened._workspace, opened._passphrase = Workspace.open(Path(workspace), passphrase), passphrase
    opened._config()
    return opened
