"""The sampling job as a process: killed at any moment, beside readers and a rival, and over 150,000 rows.

Worker processes generate all rows with the model of a real run on the tiny base model.
"""

import csv
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from localsynth.errors import ExitCode
from localsynth.schema.columns import Schema, conform
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import read_json

LOG = logging.getLogger(__name__)
"""The figures that were measured: pytest --log-cli-level=INFO."""

KINDS = ["refund", "delivery", "question"]

BACK_TO_BACK = """
import sys
from localsynth import worker
serve = worker.serve
def without_a_pause(*given):
    import localsynth.sample.job as job
    import localsynth.pipeline.sample as stage
    job._MIN_SECONDS_BETWEEN_CHUNKS = 0.0
    stage.recorder = lambda session, run: session.emit
    stage.certificate_of = lambda session, run: run.certificate()
    return serve(*given)
worker.serve = without_a_pause
sys.exit(worker.main())
"""
"""A worker that writes transactions without a pause, so that kills often hit one.

It does not compute the spent ε, which takes three quarters of its start.
"""


class Sampler:
    """A sampling worker and its events."""

    def __init__(self, program: list[str], request: dict[str, Any], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OMP_WAIT_POLICY": "passive", **environment},
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request))
        self.process.stdin.close()

    def events(self) -> Any:
        """What it tells, until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def generates(self) -> bool:
        """Wait until it generates its first rows; False where it ended before."""
        return any(event["kind"] == "note" for event in self.events())

    def end(self) -> dict[str, Any]:
        """Wait for its end; its last event."""
        last: dict[str, Any] = {}
        for event in self.events():
            last = event
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return last


@dataclass
class Table:
    """A workspace whose run has its model, and the synthetic table generated with it."""

    workspace: Path
    environment: dict[str, str]
    overrides: list[str] = field(default_factory=list)

    def start(self, chunk_rows: int | None = None, *more_overrides: str, **options: Any) -> Sampler:
        """A job begun; with `chunk_rows`, one transaction after the other, each of so many rows."""
        overrides = [*self.overrides, *more_overrides, *([f"sample.chunk_rows={chunk_rows}"] if chunk_rows else [])]
        request = {"verb": "sample", "workspace": str(self.workspace), "overrides": overrides, "options": options}
        return Sampler(["-c", BACK_TO_BACK] if chunk_rows else ["-m", "localsynth.worker"], request, self.environment)

    def sample(self, **options: Any) -> dict[str, Any]:
        """The result of a finished job."""
        last = self.start(1000, **options).end()
        assert last["kind"] == "result", last
        result: dict[str, Any] = last["result"]
        return result

    @property
    def store(self) -> SyntheticStore:
        return SyntheticStore(self.workspace / "synthetic.duckdb")

    def rows(self) -> int:
        return self.store.row_count()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.store.query(sql)[1]

    def check(self, rows: int, jobs: list[tuple[int, int]]) -> None:
        """The table has exactly `rows` rows, numbered without a gap, all valid, of `jobs` as (first row, rows)."""
        numbered = self.query("select min(row_number), max(row_number), count(distinct row_number), count(*) from provenance")
        assert numbered == [(0, rows - 1, rows, rows)]
        schema = Schema.model_validate(read_json(self.workspace / "schema.json")["schema"])
        identifiers = []
        for row in self.store.records():
            learned = {column.name: row[column.name] for column in schema.learned()}
            assert conform(schema, learned) == learned
            identifiers.append(row["id"])
        assert identifiers == list(range(1, rows + 1)), "identifiers continue with the row numbers"
        told = self.store.jobs()
        assert [(job["first_row"], job["rows"]) for job in told] == jobs
        (run,) = (self.workspace / "runs").iterdir()
        assert {(job["run"], job["model_sha256"]) for job in told} == {
            (run.name, read_json(run / "run.json")["export"]["model_hash"])
        }
        written = "select job, min(row_number), count(*) from provenance group by job order by job"
        assert self.query(written) == [(job["job"], job["first_row"], job["rows"]) for job in told if job["rows"]]
        # A chunk is named by its first row, and belongs to one job.
        chunks = "select chunk from provenance group by chunk having chunk <> min(row_number) or count(distinct job) > 1"
        assert self.query(chunks) == []


@pytest.fixture(scope="module")
def exported(command_in: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run with a single synthetic row, to be copied, and the command that made it."""
    directory = tmp_path_factory.mktemp("sampling")
    localsynth, r = command_in(directory), random.Random(0)
    with (directory / "orders.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "kind", "amount", "ok"])
        writer.writerows([1000 + i, r.choice(KINDS), r.randint(1, 90), r.choice(["yes", "no"])] for i in range(400))
    localsynth.ok("init", "ws", "--data", "orders.csv")
    toml = directory / "ws" / "localsynth.toml"
    declared = {"kind": f"values = {json.dumps(KINDS)}", "amount": "min = 0\nmax = 99"}
    text = toml.read_text().replace("# public_size = 10000", "public_size = 400")
    for name, line in declared.items():
        text = text.replace(f'name = "{name}"\n', f'name = "{name}"\n{line}\n')
    toml.write_text(text)
    # A table without text would be made from marginals.
    localsynth.ok("run", "ws", "--rows", 1, *localsynth.quick(), "--set", "train.synthesizer=llm")
    (directory / "ws" / "synthetic.duckdb").unlink()
    return localsynth


@pytest.fixture
def table(exported: Any, tmp_path: Path) -> Table:
    shutil.copytree(exported.directory / "ws", tmp_path / "ws")
    return Table(tmp_path / "ws", exported.environment, [*exported.quick()[1::2], "sample.threads=1"])


# --- killed ----------------------------------------------------------------------------------------------------------


def sample_through_kills(table: Table, kills: int, until: int, r: random.Random, **options: Any) -> int:
    """Kill a job up to `kills` times, each at a random moment, then finish it at `until` rows.

    Returns how many kills hit it while it was writing: their transaction's log is left.
    """
    log, inside = table.workspace / "synthetic.duckdb.wal", 0
    for _ in range(kills):
        sampler = table.start(4, **options)
        if r.random() < 0.8:
            sampler.generates()
        time.sleep(r.random())
        sampler.process.kill()
        last = sampler.end()
        inside += log.exists()
        if last.get("kind") == "result":
            break
        assert sampler.process.returncode == -signal.SIGKILL
    else:
        table.sample(**options)
    assert table.rows() == until
    return inside


def seeds_file(directory: Path, rows: int) -> str:
    path = directory / "seeds.csv"
    path.write_text("amount\n" + "".join(f"{i % 90}\n" for i in range(rows)))
    return str(path)


def column(table: Table, name: str) -> list[Any]:
    return [row[0] for row in table.query(f"select {name} from synthetic")]


def test_killed_jobs_are_finished_without_a_lost_or_doubled_row(table: Table, tmp_path: Path) -> None:
    r = random.Random(1)
    seeds = seeds_file(tmp_path, 120)
    sample_through_kills(table, 1, 120, r, rows=120)
    table.check(120, [(0, 120)])
    sample_through_kills(table, 1, 240, r, more=120)
    sample_through_kills(table, 1, 360, r, seeds=seeds)
    # Rows added in the same way as the first ones make the same job longer.
    table.check(360, [(0, 240), (240, 120)])
    assert column(table, "amount")[240:] == [i % 90 for i in range(120)]


@pytest.mark.slow
def test_fifty_kills(table: Table, tmp_path: Path) -> None:
    r = random.Random(2)
    seeds = seeds_file(tmp_path, 700)
    ways: list[dict[str, Any]] = [{"rows": 900}, {"more": 800}, {"more": 400, "where": "amount < 20"}, {"seeds": seeds}]
    inside, jobs, rows = 0, [], 0
    for _ in range(2):
        for way, kills in zip(ways, (7, 6, 6, 6), strict=True):
            added = 700 if "seeds" in way else way.get("more", 900)
            asked = {"rows": rows + added} if "rows" in way else way
            inside += sample_through_kills(table, kills, rows + added, r, **asked)
            if "more" in way and "where" not in way:
                jobs[-1] = (jobs[-1][0], jobs[-1][1] + added)
            else:
                jobs.append((rows, added))
            rows += added
            table.check(rows, jobs)
            amounts = column(table, "amount")[-added:]
            if "where" in way:
                assert all(amount < 20 for amount in amounts)
            if "seeds" in way:
                assert amounts == [i % 90 for i in range(added)]
    LOG.info("%d of the kills left the log of a transaction", inside)
    assert inside


# --- others in the workspace -------------------------------------------------------------------------------------------


@pytest.fixture
def sampler(table: Table) -> Any:
    """A sampler with more rows to generate than it will ever finish here."""
    at_work = table.start(20, rows=1_000_000)
    assert at_work.generates()
    deadline = time.monotonic() + 60
    while not table.rows() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield at_work
    if at_work.process.poll() is None:
        at_work.process.kill()
        at_work.end()


def test_second_sampler_is_refused_and_the_first_continues(table: Table, sampler: Sampler, exported: Any) -> None:
    refused = exported("sample", table.workspace, "--more", 5, *exported.quick())
    assert refused.code == ExitCode.RESOURCES
    assert f"The sampler of this workspace is in use by process {sampler.process.pid} (" in refused.err, refused.err
    before = table.rows()
    # A reader as often as it can, so that the two do meet.
    deadline = time.monotonic() + 60
    while (rows := table.rows()) < before + 100 and time.monotonic() < deadline:
        pass
    assert rows >= before + 100
    sampler.process.terminate()
    ended = sampler.end()
    assert ended["code"] == ExitCode.CANCELLED == sampler.process.returncode, ended
    rows = table.rows()
    table.sample(rows=rows + 30)
    table.check(rows + 30, [(0, rows + 30)])


def test_reading_while_a_sampler_writes(table: Table, sampler: Sampler, exported: Any, tmp_path: Path) -> None:
    asked = "select count(*) as n, min(id) as first, max(id) as last from synthetic"
    (before,) = exported.ok("query", table.workspace, asked, "--json").json()
    assert before["n"] > 0 and (before["first"], before["last"]) == (1, before["n"])
    out = tmp_path / "out.csv"
    exported.ok("export-data", table.workspace, "--format", "csv", "--out", out)
    with out.open(encoding="utf-8", newline="") as lines:
        written = [int(row["id"]) for row in csv.DictReader(lines)]
    # Whole transactions only, each of 20 rows.
    assert written == list(range(1, len(written) + 1)) and len(written) % 20 == 0
    assert before["n"] <= len(written) <= table.rows()
    assert sampler.process.poll() is None


def test_rows_under_a_condition_beside_plain_ones(table: Table) -> None:
    table.sample(rows=40)
    table.sample(more=40, where="kind = 'refund' and amount between 10 and 19")
    table.sample(rows=120)
    table.check(120, [(0, 40), (40, 40), (80, 40)])
    assert [job["asked"] for job in table.store.jobs()] == [{}, {"where": "kind = 'refund' and amount between 10 and 19"}, {}]
    rows = list(table.store.records())
    assert all(row["kind"] == "refund" and 10 <= row["amount"] <= 19 for row in rows[40:80])
    for plain in (rows[:40], rows[80:]):
        assert any(row["kind"] != "refund" or row["amount"] not in range(10, 20) for row in plain)


# --- at scale --------------------------------------------------------------------------------------------------------

MANY = 150_000


class Watched:
    """A job that runs in a thread, with the resources that its process uses."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._process = psutil.Process(sampler.process.pid)
        self.seen: list[tuple[float, int, int, float]] = []
        """Seconds on the clock, rows, resident bytes, CPU seconds."""
        self.last: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        for event in self._sampler.events():
            self.last = event
            if event["kind"] == "progress":
                used = self._process.cpu_times()
                resident = self._process.memory_info().rss
                self.seen.append((time.monotonic(), event["step"], resident, used.user + used.system))

    def wait_for(self, rows: int) -> None:
        while self._thread.is_alive() and (not self.seen or self.seen[-1][1] < rows):
            time.sleep(0.1)

    def end(self) -> None:
        self._thread.join()
        self._sampler.end()
        assert self.last.get("kind") == "result", self.last

    def kill(self) -> None:
        self._sampler.process.kill()
        self._thread.join()
        self._sampler.end()

    def rate(self, begin: float, end: float) -> float:
        """Rows a CPU second between two moments on the clock."""
        inside = [(rows, cpu) for moment, rows, _, cpu in self.seen if begin <= moment <= end]
        return (inside[-1][0] - inside[0][0]) / (inside[-1][1] - inside[0][1])


@pytest.mark.slow
def test_many_rows_in_constant_memory_at_a_constant_rate(table: Table, tmp_path: Path) -> None:
    """The last rows of a long job take as long as the first ones of a second job that runs at the same time.

    At the same time, since a core's speed varies more from minute to minute than the rate may.
    """
    long = Watched(table.start(None, "sample.batch_size=64", "sample.threads=1", rows=MANY))
    long.wait_for(MANY * 7 // 10)
    second = replace(table, workspace=Path(shutil.copytree(table.workspace, tmp_path / "second")))
    for file in second.workspace.glob("synthetic.duckdb*"):
        file.unlink()
    young = Watched(second.start(None, "sample.batch_size=64", "sample.threads=1", rows=MANY))
    young.wait_for(MANY // 100)
    begun = time.monotonic()
    long.end()
    ended = time.monotonic()
    reached = young.seen[-1][1]
    young.kill()

    first, last = young.rate(begun, ended), long.rate(begun, ended)
    memory = [resident for _, rows, resident, _ in long.seen if rows >= MANY / 10]
    mib = [resident / 2**20 for resident in (memory[0], memory[-1], max(memory))]
    LOG.info("memory: %.1f MiB at 10 %% of the rows, %.1f at the end, %.1f at most", *mib)
    LOG.info("rows a CPU second: %.0f to the end of %d, %.0f in the first %d of another job", last, MANY, first, reached)
    LOG.info("the first to the second: %.3f", last / first)
    table.check(MANY, [(0, MANY)])
    assert max(memory) <= 1.05 * memory[0] and min(memory) >= 0.95 * memory[0]
    assert 0.9 <= last / first <= 1.1
