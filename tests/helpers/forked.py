"""Stages of the engine, each run in a fork as its process would run it, and what must hold of a workspace at any moment.

For the scripts kill_harness.py and fault_harness.py: they fork with torch imported and not yet used, so that a stage of the tiny
model takes tenths of a second.
"""

import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# So that every fork has them: nothing here may start a thread.
import localsynth.evaluate.tables
import localsynth.sample.sampler
import localsynth.train.loop  # noqa: F401
from localsynth import worker
from localsynth.config import DataConfig, render_config
from localsynth.errors import LocalsynthError
from localsynth.llm.gguf_file import GgufFile
from localsynth.pipeline import train as train_stage
from localsynth.privacy.accountant import TOLERANCE
from localsynth.privacy.ledger import Ledger
from localsynth.schema.columns import Category, Integer, Schema, Text, conform
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import read_json
from localsynth.verification.file import verify_file
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run

KINDS = ("model", "marginals", "hybrid")
"""What makes the rows."""
STAGES = ("ingest", "rehearse", "train", "export", "count_texts", "sample", "evaluate", "audit")
"""In an order in which each can begin where those before it are done. Marginals have no texts to count, and are not audited."""
PEOPLE = 240
ROWS = 60
EPSILON = 4.0
TIMEOUT = 300.0

_COLUMNS = [Category(name="kind", values=["a", "b"]), Integer(name="n"), Category(name="place"), Text(name="note")]
_OPTIONS: dict[str, dict[str, Any]] = {
    "sample": {"rows": ROWS},
    "rehearse": {"rows": 5, "rehearsal_steps": 2},
    "audit": {"canaries": 20},
}


def stages_of(kind: str) -> tuple[str, ...]:
    return tuple(stage for stage in STAGES if kind != "marginals" or stage not in ("count_texts", "audit"))


@dataclass(frozen=True)
class Place:
    """A directory with a workspace of some kind and its keys, and the model it is trained on."""

    root: Path
    kind: str
    model: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root / "ws")

    @property
    def log(self) -> Path:
        """What forks have said, kept outside of what may fill up."""
        return self.root.with_name(self.root.name + ".log")

    @property
    def done(self) -> Path:
        """A line for each step that a fork has taken."""
        return self.root.with_name(self.root.name + ".done")

    def enter(self) -> None:
        """Let this process use the place's keys."""
        os.environ["LOCALSYNTH_HOME"] = str(self.root / "home")

    def copy(self, root: Path) -> "Place":
        shutil.copytree(self.root, root, dirs_exist_ok=True)  # it may be where a disk is mounted
        return Place(root, self.kind, self.model)

    def remove(self) -> None:
        shutil.rmtree(self.root)
        for path in (self.log, self.done):
            path.unlink(missing_ok=True)


def new_place(root: Path, kind: str, model: Path) -> Place:
    """A workspace on which nothing was done yet."""
    r, place = random.Random(0), Place(root, kind, model)
    lines = [f"{r.choice('ab')},{r.randrange(1000)},{r.choice(['north', 'south'])},hello {i}" for i in range(PEOPLE)]
    place.enter()
    Workspace.create(place.workspace.root)
    source = root / "source.csv"
    source.write_text("kind,n,place,note\n" + "\n".join(lines) + "\n")
    columns = _COLUMNS[:3] if kind == "marginals" else _COLUMNS
    data = DataConfig(source="SOURCE", columns=[column.name for column in columns])
    text = render_config(data, Schema(confirmed=True, columns=columns), "ws")
    place.workspace.config_path.write_text(text)
    return place


def _overrides(place: Place) -> list[str]:
    synthesizer = {"model": "llm"}.get(place.kind, place.kind)
    return [
        f"data.source={place.root.parent / 'source.csv'}",
        f"privacy.epsilon={EPSILON}",
        "privacy.holdout=0.1",
        f"train.synthesizer={synthesizer}",
        f"train.model={place.model}",
        "train.batch_size=40",
        "train.epochs=2",
        "train.device=cpu",
        "train.precision=fp32",
        "sample.quantization=Q8_0",
        "sample.batch_size=4",
        "sample.threads=1",
        "sample.chunk_rows=5",
    ]


@dataclass(frozen=True)
class Ended:
    """How a fork ended: an exit code, or minus a signal."""

    code: int
    seconds: float
    message: str
    """What the user would read; empty where it went well."""


def _work(stage: str, place: Place, options: dict[str, Any], before: Callable[[], None]) -> int:
    place.enter()
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    done = os.open(place.done, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(log, standard)
    train_stage._check_own_model = lambda name, path: None
    import localsynth.sample.job as job

    job._MIN_SECONDS_BETWEEN_CHUNKS = 0.0  # most of the time is then spent where a kill hurts
    doing = ""

    def emit(event: dict[str, Any]) -> None:
        nonlocal doing
        doing = worker._doing(event, doing)
        if event["kind"] == "progress":
            what = event.get("work") or event["stage"]
            os.write(done, f"{stage}: {what} {event.get('step', 0)}\n".encode())

    request = {
        "verb": stage,
        "workspace": str(place.workspace.root),
        "overrides": _overrides(place),
        "options": {"force": True, **_OPTIONS.get(stage, {}), **options},
    }
    before()
    try:
        worker.serve(request, emit, worker._Stop(), "namespace")
        return 0
    except Exception as error:
        failed = worker.failure_event(error, doing)
        os.write(log, ("\nFAILED " + json.dumps(failed) + "\n").encode())
        return int(failed["code"])


def run(
    stage: str,
    place: Place,
    *,
    kill_after: float | None = None,
    before: Callable[[], None] = lambda: None,
    **options: Any,
) -> Ended:
    """Run a stage in a fork. `before` is called there, last of all before the work."""
    started = time.monotonic()
    place.log.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _work(stage, place, options, before)
        except BaseException as error:
            with suppress(OSError):
                os.write(2, ("\nFAILED " + json.dumps({"message": f"uncaught: {error!r}", "hint": ""}) + "\n").encode())
        finally:
            os._exit(code)
    limit = TIMEOUT if kill_after is None else kill_after
    while time.monotonic() - started < limit and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - started
    text = place.log.read_text(errors="replace")
    message = "still at work" if kill_after is None and seconds >= TIMEOUT else ""
    if "\nFAILED " in text:
        failed = json.loads(text.rpartition("\nFAILED ")[2])
        message = f"{failed['message']} {failed['hint']}"
    elif code < 0 and kill_after is None and not message:
        told = worker._without_an_answer(code, stage)
        message = f"{told.message} {told.hint}"
    elif code not in (0, -signal.SIGKILL):
        message = text[-800:]
    return Ended(code, seconds, message)


# --- what must hold


def faults_of(place: Place) -> list[str]:
    """What is wrong with the files under their final names, whatever was interrupted."""
    place.enter()
    wrong = []
    for check in (_private, _ledger, _run, _rows):
        try:
            wrong += check(place)
        except (LocalsynthError, AssertionError, OSError, ValueError, LookupError) as error:
            wrong.append(f"{check.__name__}: {error!r}")
    return wrong


def _private(place: Place) -> Iterator[str]:
    workspace = place.workspace
    if workspace.schema_path.exists():
        read_json(workspace.schema_path)
    if workspace.private_path.exists():
        with PrivateStore.open(workspace) as store:
            rows = sum(sum(store.column_counts(0, split).values()) for split in ("train", "holdout"))
        if rows != PEOPLE:
            yield f"{rows} rows of {PEOPLE} in the private store"


def _ledger(place: Place) -> Iterator[str]:
    workspace = place.workspace
    ledger = Ledger.open(workspace.ledger_path, workspace.keys_path / "ledger-head.json", workspace.id)
    spent = ledger.spent()
    if spent.epsilon > spent.bound * (1 + TOLERANCE):
        yield f"epsilon {spent.epsilon} is more than its bound {spent.bound}"
    if spent.bound > EPSILON * (1 + TOLERANCE) and not any(event["beyond_limit"] for event in ledger.budgets()):
        yield f"bound {spent.bound} is more than what was allowed"
    charged = [event["what"] for event in ledger.spends()]
    steps, released = charged.count("DP-SGD step"), charged.count("marginals")
    lines = place.done.read_text().splitlines() if place.done.exists() else []
    executed = sum(line.startswith("train: train ") for line in lines)
    if steps < executed:
        yield f"{executed} steps were taken and {steps} charged"
    if "train: marginals 0" in lines and not released:
        yield "marginals were measured and not charged"
    files = [path for path in workspace.runs_path.glob("*/marginals.json") if path.is_file()]
    if len(files) > released:
        yield f"{len(files)} files of marginals and {released} charged"
    counts, paid = len(list(workspace.runs_path.glob("*/text_counts.json"))), charged.count("tokens of the texts")
    if counts > paid or paid > 1:
        yield f"{counts} counts of words and {paid} charged"


def _run(place: Place) -> Iterator[str]:
    run = latest_run(place.workspace)
    if run is None:
        return
    if run.record.train and not run.by_marginals and run.adapter_sha256() != run.training.adapter_sha256:
        yield "the adapter is another one"
    if run.record.marginals is not None:
        run.check_marginals()
    run.check_text_counts()
    for model in run.directory.glob("model.*.gguf"):
        GgufFile(model)
    if run.certificate_path.exists() and not verify_file(run.certificate_path, None)["valid"]:
        yield "the certificate does not hold"
    for name in ("report.json", "audit.json"):
        if (run.directory / name).exists():
            read_json(run.directory / name)
    page = run.directory / "report.html"
    if page.exists() and not page.read_text().rstrip().endswith("</html>"):
        yield "the report is cut"


def _rows(place: Place) -> Iterator[str]:
    path, run = place.workspace.synthetic_path, latest_run(place.workspace)
    if run is None or not path.exists():
        return
    store = SyntheticStore(path)
    count = store.row_count()
    if not count:
        return
    numbered = "select min(row_number), max(row_number), count(distinct row_number) from provenance"
    ((first, last, distinct),) = store.query(numbered)[1]
    if (first, last, distinct) != (0, count - 1, count):
        yield f"{count} rows, numbered {first} to {last}, {distinct} of them different"
    schema = run.effective.schema
    if any(conform(schema, row) != row for row in store.records()):
        yield "a row breaks the schema"


def unfinished(place: Place, stage: str) -> list[str]:
    """What a stage that said it was done has not made."""
    place.enter()
    workspace = place.workspace
    run = latest_run(workspace)
    if stage == "ingest":
        made = workspace.private_path.exists() and read_json(workspace.schema_path)["complete"]
    elif stage == "rehearse":
        rehearsal = SyntheticStore(workspace.root / "rehearsal" / "synthetic.duckdb")
        made = rehearsal.row_count() == _OPTIONS["rehearse"]["rows"]
    elif run is None:
        made = False
    else:
        made = _made(run, stage, workspace)
    return [] if made else [f"{stage} is not done"]


def _made(run: Run, stage: str, workspace: Workspace) -> bool:
    if stage == "sample":
        rows = run.record.sample.rows if run.record.sample is not None else None
        return SyntheticStore(workspace.synthetic_path).row_count() == ROWS == rows
    files = {
        "train": run.marginals_path if run.by_marginals else run.adapter_path,
        "export": run.certificate_path,
        "count_texts": run.directory,  # a count that was lost leaves no file
        "evaluate": run.directory / "report.html",
        "audit": run.audit_path,
    }
    done = {"count_texts": "text_counts"}.get(stage, stage)
    return files[stage].exists() and (stage in ("evaluate", "audit") or getattr(run.record, done) is not None)


def bases(root: Path, kind: str, model: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, Place, float]]:
    """(stage, a place to be copied on which it can begin, its seconds) for the stages of `wanted`, in their order."""
    place = new_place(root / kind, kind, model)
    shutil.copy(place.root / "source.csv", root / "source.csv")
    left = set(wanted)
    for stage in stages_of(kind):
        if stage not in left and (not left or stage in ("rehearse", "evaluate", "audit")):
            continue  # no other stage needs it
        left.discard(stage)
        before = place.copy(root / f"{kind}-before-{stage}")
        ended = run(stage, place)
        assert ended.code == 0, (kind, stage, ended)
        assert not (wrong := faults_of(place) + unfinished(place, stage)), (kind, stage, wrong)
        if stage in wanted:
            yield stage, before, ended.seconds
        before.remove()


def limit_memory(more: int) -> None:
    """Let this process take so many bytes of address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
