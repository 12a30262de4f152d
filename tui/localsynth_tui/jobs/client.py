"""Starts worker processes: long jobs through a supervisor that outlives the UI, short requests directly.

A `Job` is a workspace's one long-running piece of work: running, or over and not yet
dismissed. Any number of UIs may follow it. Its methods read small files in memory (see
supervisor.py), so none of them blocks for long.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from localsynth.errors import ExitCode, ResourceError
from localsynth.events import Event
from localsynth.results.as_json import from_json
from localsynth.system.files import read_json, write_json
from localsynth.worker import WorkerError, failure_event
from localsynth_tui.jobs.supervisor import EVENTS, MEMORY, OUTCOME, STOP
from localsynth_tui.text.command_line import command_line

SUPERVISOR = [sys.executable, "-m", "localsynth_tui.jobs.supervisor"]
"""The command of a job's supervisor; the job's directory is added to it."""

PLAN_SERVER = [sys.executable, "-m", "localsynth_tui.jobs.plan_server"]
"""The command of the process that makes plans."""

_LOCK, _REQUEST = "lock", "request.json"
_MAX_LINE_BYTES = 2**26

Record = TypeVar("Record")


@dataclass(frozen=True)
class Request:
    """One verb of the worker on one workspace. `data` is the source of `init`."""

    verb: str
    workspace: Path
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] | None = None
    require_seal: str | None = None
    """"kernel": refused where the kernel does not enforce the network seal."""

    def document(self) -> dict[str, Any]:
        """The JSON object that the worker reads."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return given | {"workspace": str(self.workspace)}

    def command(self) -> str:
        """The equivalent command."""
        return command_line(self.verb, self.workspace, {**self.options, "require_seal": self.require_seal})


def _runtime_directory() -> Path:
    """The user's directory for jobs, in memory where the system has such a directory.

    Raises ResourceError where it belongs to another user.
    """
    base = MEMORY if os.path.ismount(MEMORY) else Path(tempfile.gettempdir())
    path = base / f"localsynth-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if path.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ResourceError(f"{path} is not private to you.", "Another user may have made it. Have it removed, then try again.")
    return path


class Job:
    """The long-running work on one workspace, which any UI can follow."""

    def __init__(self, workspace: Path) -> None:
        """Starts nothing: finds the workspace's job, if there is one."""
        self.workspace = workspace
        name = hashlib.sha256(os.fsencode(workspace.resolve())).hexdigest()[:16]
        self.directory = _runtime_directory() / name
        self._events: IO[bytes] | None = None
        self._rest = b""

    @staticmethod
    def start(request: Request, passphrase: str | None = None) -> "Job":
        """Start a job. Raises ResourceError where another one is running on this workspace.

        The passphrase of the workspace's key goes through a pipe to the supervisor, which
        passes it on through another pipe: it is in no file, argument or environment.
        """
        job = Job(request.workspace)
        job.directory.mkdir(mode=0o700, exist_ok=True)
        (job.directory / _LOCK).touch(mode=0o600)
        # The supervisor inherits the lock and holds it while it lives: no second job, and no process ids to track.
        with (job.directory / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ResourceError("A job is already running in this workspace.", "Wait for it to finish, or stop it.") from None
            for name in (EVENTS, OUTCOME, STOP):
                (job.directory / name).unlink(missing_ok=True)
            write_json(job.directory / _REQUEST, request.document())
            (job.directory / EVENTS).touch(mode=0o600)
            supervisor = subprocess.Popen(
                [*SUPERVISOR, str(job.directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # closing the terminal does not end it
            )
        assert supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError), supervisor.stdin:
            supervisor.stdin.write(_with_passphrase(request, passphrase))
        job._supervisor = supervisor  # to reap the process when it has ended
        return job

    _supervisor: "subprocess.Popen[bytes] | None" = None

    @property
    def exists(self) -> bool:
        """There is a job: running, or over and not dismissed."""
        return (self.directory / _REQUEST).exists()

    @property
    def running(self) -> bool:
        """Its supervisor is alive."""
        if self._supervisor is not None:
            self._supervisor.poll()
        try:
            with (self.directory / _LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    @property
    def request(self) -> Request:
        """The request that started it."""
        document = read_json(self.directory / _REQUEST)
        return Request(**document | {"workspace": Path(document["workspace"])})

    def new_events(self, limit: int = 1000) -> list[Event]:
        """The next events, at most `limit`; none where there are none yet, or where the job is over."""
        if self._events is None:
            try:
                self._events = (self.directory / EVENTS).open("rb")
            except FileNotFoundError:
                return []
        events: list[Event] = []
        while len(events) < limit and (line := self._rest + self._events.readline()):
            if not line.endswith(b"\n"):
                self._rest = line
                break
            self._rest = b""
            events.append(json.loads(line))
        return events

    def outcome(self) -> Event | None:
        """The last event, `result` or `failed`; None while the job is running. Call it before the last `new_events`."""
        if self.running:
            return None
        path = self.directory / OUTCOME
        if path.exists():
            outcome: Event = read_json(path)
            return outcome
        # The events are private, and the supervisor is not there to remove them.
        (self.directory / EVENTS).unlink(missing_ok=True)
        hint = "Start it again: it resumes, or says why it cannot. If memory ran out, close other programs first."
        return failure_event(ResourceError("The worker process was killed.", hint))

    @property
    def stopping(self) -> bool:
        """It was asked to stop."""
        return (self.directory / STOP).exists()

    def stop(self) -> None:
        """Ask it once to stop cleanly, as ctrl-C on the command line does. The charges of started stages stay."""
        if self.running:
            (self.directory / STOP).touch(mode=0o600)

    def dismiss(self) -> None:
        """Forget a job that is over."""
        if self._events is not None:
            self._events.close()
            self._events = None
        if not self.running and self.directory.exists():
            for path in self.directory.iterdir():
                path.unlink()
            self.directory.rmdir()


class PlanServer:
    """The process that makes plans: started for the first request and kept for the next (see plan_server.py)."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._unread = 0
        """Answers to abandoned requests: skipped, since a restart of the process would take longer."""

    async def plan(self, kind: type[Record], request: Request) -> Record:
        """The result of `plan`, a `Plan` or a `Sweep` as requested. Raises WorkerError."""
        async with self._one_at_a_time:
            if self._child is None or self._child.returncode is not None:
                self._child, self._unread = await _start(PLAN_SERVER), 0
            child = self._child
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(json.dumps(request.document()).encode() + b"\n")
            self._unread += 1
            line = b""
            while self._unread:
                line = await child.stdout.readline()
                self._unread -= 1
        return from_json(kind, _result(json.loads(line) if line else None, child.returncode))

    async def close(self) -> None:
        """End the process, which holds some hundreds of megabytes."""
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()
            await child.wait()


async def _start(command: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        limit=_MAX_LINE_BYTES,
        start_new_session=True,  # ctrl-C is a key of the UI, not a signal to the process
    )


def _result(last: Event | None, status: int | None) -> dict[str, Any]:
    if last is not None and last["kind"] == "result":
        result: dict[str, Any] = last["result"]
        return result
    if last is not None and last["kind"] == "failed":
        raise WorkerError(last["message"], last["hint"], last["code"])
    raise WorkerError(f"The worker process ended without an answer (status {status}).", "Try again.", ExitCode.BUG)


def _with_passphrase(request: Request, passphrase: str | None) -> bytes:
    """The bytes for the pipe to a supervisor or worker."""
    extra = {} if passphrase is None else {"passphrase": passphrase}
    return json.dumps(request.document() | extra).encode()


async def ask(request: Request, module: str = "localsynth.worker", passphrase: str | None = None) -> dict[str, Any]:
    """The result of a short request (`init`, `unlock`) to a process that ends with the calling task. Raises WorkerError."""
    child = await _start([sys.executable, "-m", module])
    assert child.stdin is not None and child.stdout is not None
    last: Event | None = None
    try:
        child.stdin.write(_with_passphrase(request, passphrase))
        child.stdin.close()
        async for line in child.stdout:
            last = json.loads(line)
        status = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _result(last, status)
