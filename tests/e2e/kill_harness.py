"""Kills a stage at random moments and starts it again. A script of its own: it forks with torch imported and not yet used.

    python kill_harness.py DIRECTORY MODEL KILLS SEED STAGE...

For every stage: a workspace on which it can begin is made once; each kill works on a copy of it (with its keys), looks at what
the killed stage left, then runs the stage again, to the end. A stage that ended before it could be killed does not
count. Writes one JSON object a kill; a wrong state is in `wrong`.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch  # noqa: F401 - so that every fork has it

from localsynth.config import Config, DataConfig, PrivacyConfig, SampleConfig, TrainConfig
from localsynth.errors import LocalsynthError
from localsynth.gguf_file import GgufFile
from localsynth.privacy.accountant import TOLERANCE
from localsynth.privacy.ledger import Ledger
from localsynth.runs import latest_run
from localsynth.schema import Category, Integer, Schema, Text
from localsynth.stages import export as export_stage
from localsynth.stages import ingest as ingest_stage
from localsynth.stages import train as train_stage
from localsynth.stages.session import Options, Session
from localsynth.store.private import PrivateStore
from localsynth.verify import verify_file
from localsynth.workspace import Workspace, read_json

ORDER = ("ingest", "train", "export")
STAGES = {"ingest": ingest_stage.ingest, "train": train_stage.train, "export": export_stage.export}
PEOPLE = 240
MISSES = 100
"""A stage may so often have ended before it could be killed; then the rest is not repeated."""
EPSILON = 4.0


def config(root: Path, model: Path) -> Config:
    schema = Schema(
        confirmed=True,
        columns=[Category(name="kind", values=["a", "b"]), Integer(name="n"), Category(name="place"), Text(name="note")],
    )
    return Config(
        data=DataConfig(source=str(root / "source.csv")),
        schema=schema,
        privacy=PrivacyConfig(epsilon=EPSILON, holdout=0.1),
        train=TrainConfig(model=str(model), batch_size=40, epochs=2, device="cpu", precision="fp32"),
        sample=SampleConfig(quantization="Q8_0", sequences=4, threads=1),
    )


def work(stage: str, place: Path, settings: Config) -> None:
    """In the fork: the stage, its steps written down as they are done."""
    os.environ["LOCALSYNTH_HOME"] = str(place / "home")
    done = os.open(place / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    train_stage._check_own_model = lambda name, path: None

    def emit(event: dict) -> None:
        if event["kind"] == "progress":
            os.write(done, b"%s %d\n" % (stage.encode(), event.get("step", 0)))

    session = Session(Workspace.open(place / "ws"), settings, emit, lambda: False, Options(force=True))
    STAGES[stage](session)


def fork(stage: str, place: Path, settings: Config, kill_after: float | None) -> tuple[int, float]:
    """(exit status or minus the signal, seconds)."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            work(stage, place, settings)
            code = 0
        except LocalsynthError as error:
            os.write(2, f"{error.message} {error.hint}\n".encode())
            code = int(error.exit_code)
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    if kill_after is not None:
        while time.monotonic() - started < kill_after and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), time.monotonic() - started


def look(place: Path) -> list[str]:
    """What is wrong with the files under their final names."""
    wrong, workspace = [], Workspace(place / "ws")
    os.environ["LOCALSYNTH_HOME"] = str(place / "home")
    try:
        if workspace.schema_path.exists():
            read_json(workspace.schema_path)
        if workspace.private_path.exists():
            with PrivateStore.open(workspace) as store:
                assert store.row_count("train") + store.row_count("holdout") == PEOPLE
        ledger = Ledger.open(workspace.ledger_path, workspace.keys_path / "ledger-head.json", workspace.id)
        spent = ledger.spent()
        if not (spent.epsilon <= spent.bound * (1 + TOLERANCE) and spent.bound <= EPSILON * (1 + TOLERANCE)):
            wrong.append(f"epsilon {spent.epsilon}, bound {spent.bound}")
        steps = sum(event["kind"] == "spend" and event["what"] == "DP-SGD step" for event in ledger.document()["events"])
        lines = (place / "done").read_text().splitlines() if (place / "done").exists() else []
        executed = sum(line.startswith("train ") for line in lines)
        if steps < executed:
            wrong.append(f"{executed} steps were taken and {steps} charged")
        run = latest_run(workspace)
        if run is not None:
            if run.get("train"):
                run.adapter_sha256()
            for model in run.directory.glob("model.*.gguf"):
                GgufFile(model)
            if run.certificate_path.exists() and not verify_file(run.certificate_path, None)["valid"]:
                wrong.append("the certificate does not hold")
    except (LocalsynthError, AssertionError) as error:
        wrong.append(repr(error))
    return wrong


def main() -> None:
    root, model, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    r = random.Random(seed)
    lines = [f"{r.choice('ab')},{r.randrange(1000)},{r.choice(['north', 'south'])},hello {i}" for i in range(PEOPLE)]
    (root / "source.csv").write_text("kind,n,place,note\n" + "\n".join(lines) + "\n")
    settings, base = config(root, model), root / "base"
    os.environ["LOCALSYNTH_HOME"] = str(base / "home")
    Workspace.create(base / "ws").config_path.write_text("# read by nobody here\n")
    for stage in ORDER:
        before = root / f"before-{stage}"
        shutil.copytree(base, before)
        code, seconds = fork(stage, base, settings, None)
        assert code == 0, (stage, code, (base / "log").read_text())
        missed = 0
        for number in range(kills if stage in sys.argv[5:] else 0):
            place = root / f"{stage}-{number}"
            while True:
                shutil.copytree(before, place)
                after = r.uniform(0, seconds)
                ended, took = fork(stage, place, settings, after)
                if ended == -signal.SIGKILL or missed == MISSES:
                    break
                # It was done before its turn. The first time is the longest, since everything is read from the disk then.
                seconds, missed = min(seconds, took), missed + 1
                shutil.rmtree(place)
            wrong = [f"after the kill: {each}" for each in look(place)]
            again, _ = fork(stage, place, settings, None)
            already = b"is trained already" in (place / "log").read_bytes()
            if again != 0 and not (again == 2 and already):
                wrong.append(f"started again: {again} {(place / 'log').read_text()[-500:]}")
            wrong += [f"at the end: {each}" for each in look(place)]
            if stage != "ingest" and not wrong:
                following, _ = fork("export", place, settings, None)
                if following != 0 or look(place):
                    wrong.append(f"export: {following} {look(place)}")
            sys.stdout.write(
                json.dumps({"stage": stage, "after": after, "of": seconds, "killed": ended == -signal.SIGKILL, "wrong": wrong})
                + "\n"
            )
            sys.stdout.flush()
            shutil.rmtree(place)


main()
