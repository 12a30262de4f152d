"""A run under a passphrase and a required seal, watched from outside: no socket, and no passphrase where others can read it."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

WORDS = "neunundneunzig-luftballons"


def with_passphrase(localsynth, tmp_path, *arguments, words=WORDS, wrap=()):
    """The command with the passphrase on descriptor 3."""
    (tmp_path / "fd").write_text(words + "\n")
    line = [*wrap, sys.executable, "-m", "localsynth.cli.main", *map(str, arguments), "--passphrase-fd", "3"]
    return subprocess.run(
        ["bash", "-c", 'exec "$@" 3< fd', "bash", *line],
        cwd=tmp_path,
        env=localsynth.environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


def test_a_run_under_a_passphrase_opens_no_socket(localsynth, tickets, tmp_path):
    made = with_passphrase(localsynth, tmp_path, "init", "ws", "--data", tickets)
    assert made.returncode == 0, made.stderr
    localsynth.shorten_texts("ws")
    (key,) = (tmp_path / "home").rglob("private.key")
    before = key.read_bytes()
    assert before.startswith(b"{")
    alone = localsynth("run", "ws", *localsynth.quick())
    assert alone.code == 2 and "--passphrase-fd" in alone.err
    wrong = with_passphrase(localsynth, tmp_path, "run", "ws", *localsynth.quick(), words="wrong passphrase")
    assert wrong.returncode == 6 and "passphrase is wrong" in wrong.stderr
    assert not (tmp_path / "ws" / "ledger.json").exists(), "a wrong passphrase costs nothing"

    trace, strace = tmp_path / "trace", shutil.which("strace")
    wrap = [strace, "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=%network,execve", "-o", trace] if strace else []
    seen, stop = set(), threading.Event()

    def watch():
        """What any process of this user can read of another: its arguments and its environment."""
        while not stop.wait(0.2):
            for process in (path.name for path in Path("/proc").iterdir()):
                for part in ("cmdline", "environ"):
                    try:
                        with Path(f"/proc/{process}/{part}").open("rb") as file:
                            if process.isdigit() and WORDS.encode() in file.read():
                                seen.add(part)
                    except OSError:
                        continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    given = ["run", "ws", "--rows", 5, "--require-seal", "any", *localsynth.quick(count_texts=True)]
    done = with_passphrase(localsynth, tmp_path, *given, wrap=[*map(str, wrap)])
    stop.set()
    watcher.join()
    assert done.returncode == 0, done.stderr
    assert not seen and WORDS not in done.stdout + done.stderr and key.read_bytes() == before
    for directory in ("ws", "home"):
        for path in (tmp_path / directory).rglob("*"):
            assert not path.is_file() or WORDS.encode() not in path.read_bytes(), path
    assert localsynth("sample", "ws", "--more", 1, *localsynth.quick()).code == 0, "drawing rows needs no passphrase"
    if not strace:
        pytest.skip("strace is not installed: whether a socket was opened was not watched")
    calls = trace.read_text()
    assert "execve(" in calls and WORDS not in calls
    attempts = [line for line in calls.splitlines() if re.search(r"socket\(AF_(?!UNIX)|connect\(.*sa_family=AF_(?!UNIX)", line)]
    # The seal tries itself out by a UDP "connection" to a documentation address, in the child that then stays sealed.
    others = [line for line in attempts if "192.0.2.1" not in line and "SOCK_DGRAM" not in line]
    assert attempts and others == []
    assert all(re.search(r"= -1 E", line) for line in attempts if "connect(" in line), attempts
    assert not re.search(r"send(to|msg|mmsg)\(.*sa_family=AF_INET", calls)


def test_the_passphrase_command(localsynth, tickets, tmp_path):
    localsynth.ok("init", "ws", "--data", tickets)
    localsynth.ok("ingest", "ws")
    assert localsynth("passphrase", "ws").code == 2, "there is no terminal"
    (tmp_path / "old").write_text("the old one\n")
    (tmp_path / "new").write_text("the new one\n")

    def change(*arguments):
        line = [sys.executable, "-m", "localsynth.cli.main", "passphrase", "ws", *arguments]
        given = {"cwd": tmp_path, "env": localsynth.environment, "capture_output": True, "text": True}
        return subprocess.run(["bash", "-c", 'exec "$@" 3< old 4< new', "bash", *line], **given)

    assert change("--new-passphrase-fd", "3").returncode == 0
    assert change("--passphrase-fd", "4", "--new-passphrase-fd", "3").returncode == 6
    assert change("--passphrase-fd", "3", "--new-passphrase-fd", "4").returncode == 0
    refused = localsynth("ingest", "ws", "--again")
    assert refused.code == 2 and "passphrase" in refused.err
    assert change("--passphrase-fd", "4", "--remove").returncode == 0
    localsynth.ok("ingest", "ws", "--again")
    localsynth.ok("erase", "ws", "--yes")
    assert "were erased" in localsynth("passphrase", "ws", "--remove").err


def test_it_is_asked_for_on_a_terminal(localsynth, tickets, tmp_path):
    import pty

    localsynth.ok("init", "ws", "--data", tickets)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "localsynth.cli.main", "passphrase", "ws"], localsynth.environment)
    said, deadline = b"", time.monotonic() + 60
    for prompt in (b"New passphrase of ws: ", b"The same again: "):
        while prompt not in said and time.monotonic() < deadline:
            said += os.read(terminal, 1024)
        os.write(terminal, b"a long sentence\n")
    try:
        while more := os.read(terminal, 1024):
            said += more
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    assert b"a long sentence" not in said and b"Passphrase of ws: set" in said
