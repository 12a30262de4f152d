"""Runs `localsynth` commands in forks of one process that has imported what they need.

A command on the tiny model takes tenths of a second; starting Python and importing torch takes some seconds. Everything else
is as in a process of its own: the command line is parsed, its worker is another process (a fork, too), sealed off the network,
and the two speak over pipes.

    python -m tests.helpers.fork_server SOCKET
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn, Self

_MAX_REQUEST = 1 << 20


def _end(work: Callable[[], int | None]) -> NoReturn:
    """Do the work of a forked process, and end it without what its parent would do at its end."""
    code = 70
    try:
        code = work() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


class _ForkedWorker:
    """`subprocess.Popen` of the worker, as far as `run_in_child` uses it: a fork in place of a new process."""

    def __init__(self, command: list[str], *, env: dict[str, str], **_options: Any) -> None:
        assert command[1:] == ["-m", "localsynth.worker"], command
        their_input, our_input = os.pipe()
        our_output, their_output = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(our_input)
            os.close(our_output)
            _end(lambda: _work(their_input, their_output, env))
        os.close(their_input)
        os.close(their_output)
        self.stdin = os.fdopen(our_input, "w", encoding="utf-8")
        self.stdout = os.fdopen(our_output, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stdin.close()
        self.stdout.close()

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _work(given: int, told: int, environment: dict[str, str]) -> int:
    from localsynth import worker

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(given, 0)
    os.dup2(told, 1)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    return worker.main()


def _command(request: dict[str, Any], streams: list[int]) -> None:
    from localsynth import worker
    from localsynth.cli import main

    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, "r" if i == 0 else "w", encoding="utf-8", closefd=False) for i in range(3))
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["localsynth", *request["arguments"]]
    worker.subprocess = SimpleNamespace(Popen=_ForkedWorker, PIPE=subprocess.PIPE)  # type: ignore[attr-defined]
    main.main()


def _serve(listening: socket.socket) -> None:
    working: dict[int, socket.socket] = {}
    while True:
        readable = select.select([listening, sys.stdin], [], [], 0.01)[0]
        if sys.stdin in readable:
            return
        if listening in readable:
            client, _ = listening.accept()
            message, streams, _, _ = socket.recv_fds(client, _MAX_REQUEST, 3)
            request = json.loads(message)
            pid = os.fork()
            if pid == 0:
                listening.close()
                client.close()
                _end(lambda request=request, streams=streams: _command(request, streams))
            for stream in streams:
                os.close(stream)
            working[pid] = client
        while working and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with working.pop(ended[0]) as client:
                client.send(str(os.waitstatus_to_exitcode(ended[1])).encode())


def main() -> None:
    """Serve until standard input is closed, because the client has ended."""
    # So that every fork has them. Nothing here may start a thread that a fork would miss.
    import pandas  # noqa: F401  # DuckDB imports it, where it is installed, for the first value that it binds

    import localsynth.cli.main
    import localsynth.evaluate.tables
    import localsynth.ingest.private_bounds
    import localsynth.pipeline.run
    import localsynth.privacy.sampled_loss
    import localsynth.sample.job
    import localsynth.train.loop
    import localsynth.worker  # noqa: F401

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _serve(listening)


class ForkServer:
    """The client's side: starts the server, and has it run commands."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "fork-server"
        root = Path(__file__).parents[2]
        command = [sys.executable, "-m", "tests.helpers.fork_server", str(self._path)]
        self._process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, directory: Path, environment: dict[str, str], arguments: list[str], streams: tuple[int, int, int]) -> int:
        """The exit code of `localsynth ARGUMENTS`, with these file descriptors as its standard streams."""
        request = {"directory": str(directory), "environment": environment, "arguments": arguments}
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(str(self._path))
            client.settimeout(1800)
            socket.send_fds(client, [json.dumps(request).encode()], list(streams))
            return int(client.recv(64))

    def close(self) -> None:
        """End the server."""
        with self._process:  # closes its pipes and waits for it
            self._process.kill()


if __name__ == "__main__":
    main()
