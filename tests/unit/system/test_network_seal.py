"""Each seal is put on a process of its own, which then tries to reach listeners that this process holds open."""

import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localsynth.system import network_seal
from localsynth.system.network_seal import LEVELS, available_levels

AVAILABLE = available_levels()
WAYS = {
    "unsealed": "sealed = None",
    "namespace alone": "sealed = network_seal._move_to_empty_network()",
    "namespace": "sealed = network_seal.seal().level",
    "seccomp": "sealed = network_seal.seal('seccomp').level",
    "audit": "sealed = network_seal.seal('audit').level",
}

ATTEMPTS = """
import json, os, socket, subprocess, sys, threading, urllib.request
from localsynth.system import network_seal
port, unix_path, program = int(sys.argv[1]), sys.argv[2], sys.argv[3]
{way}
def tcp(): socket.create_connection(("127.0.0.1", port), timeout=5).close()
def tcp6_socket():
    with socket.socket(socket.AF_INET6) as s: s.connect(("::1", port))
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b"x", ("127.0.0.1", port))
def name(): socket.getaddrinfo("localsynth.invalid", 80)
def url(): urllib.request.urlopen(f"http://127.0.0.1:{{port}}/", timeout=5).read()
def unix():
    with socket.socket(socket.AF_UNIX) as s: s.connect(unix_path)
def unix_datagram():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s: s.sendto(b"x", unix_path + ".datagram")
def datagram_pair():
    with socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0] as s: s.sendto(b"x", unix_path + ".datagram")
def other_program(): subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True)
def curl(): subprocess.run(["curl", "-s", "-m", "5", f"http://127.0.0.1:{{port}}/"], check=True, capture_output=True)
def thread():
    errors = []
    def attempt():
        try: tcp()
        except OSError as error: errors.append(error)
    worker = threading.Thread(target=attempt); worker.start(); worker.join()
    if errors: raise errors[0]
outcome = {{"sealed": sealed}}
for attempt in (tcp, tcp6_socket, udp, name, url, unix, unix_datagram, datagram_pair, other_program, curl, thread):
    try:
        attempt()
        outcome[attempt.__name__] = "reached"
    except Exception as error:
        outcome[attempt.__name__] = type(error).__name__
print(json.dumps(outcome))
"""


def run(script: str, *arguments: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    answer = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def needs(way: str) -> None:
    level = way.removesuffix(" alone")
    if level in LEVELS and level not in AVAILABLE:
        pytest.skip(f"this machine allows no {level}")


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A port that answers like a web server, and a Unix socket; the datagram one has `.datagram` at its end."""
    tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(tmp_path / "socket")
    unix.bind(path)
    unix.listen()
    datagram.bind(path + ".datagram")

    def answer() -> None:
        while True:
            try:
                connection, _ = tcp.accept()
            except OSError:
                return
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    yield tcp.getsockname()[1], path
    tcp.shutdown(socket.SHUT_RDWR)
    for listener in (tcp, unix, datagram):
        listener.close()


def attempts(way: str, listeners: tuple[int, str]) -> dict[str, Any]:
    port, path = listeners
    program = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"
    outcome: dict[str, Any] = run(ATTEMPTS.format(way=WAYS[way]), str(port), path, program)
    return outcome


def test_attempts_reach_their_listeners_without_a_seal(listeners: tuple[int, str]) -> None:
    outcome = attempts("unsealed", listeners)
    reached = {attempt for attempt, result in outcome.items() if result == "reached"}
    assert reached >= {"tcp", "udp", "url", "unix", "unix_datagram", "datagram_pair", "other_program", "thread"}


HUB = """
import json, os, sys, time
from localsynth.system import network_seal
{way}
os.environ.pop("HF_HUB_OFFLINE", None)  # the seal has to do without, and what ran before may have set it
import huggingface_hub
time.sleep = lambda seconds: None  # it tries five times, with a pause after each
try:
    huggingface_hub.hf_hub_download("owner/name", "file", endpoint="http://127.0.0.1:" + sys.argv[1], local_dir=sys.argv[2])
except Exception as error:
    print(json.dumps([sealed, type(error).__name__]))
"""


@pytest.mark.parametrize("way", ["unsealed", *LEVELS])
def test_model_hub_is_unreachable(way: str, tmp_path: Path) -> None:
    """Of the library that downloads models: unsealed, its request arrives here; sealed, none does."""
    needs(way)
    arrived = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def wait() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                arrived.set()
                connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=wait, daemon=True).start()
        sealed, error = run(HUB.format(way=WAYS[way]), str(server.getsockname()[1]), str(tmp_path))
        assert (sealed, arrived.is_set()) == ((None, True) if way == "unsealed" else (way, False)), error


@pytest.mark.parametrize(
    ("level", "kernel", "some"),
    [("namespace", True, True), ("seccomp", True, True), ("audit", False, True), ("none", False, False)],
)
def test_meets(level: Any, kernel: bool, some: bool) -> None:
    assert (network_seal.meets(level, "kernel"), network_seal.meets(level, "any")) == (kernel, some)


@pytest.mark.parametrize("level", LEVELS)
def test_sealed_process_has_no_network(level: str, listeners: tuple[int, str]) -> None:
    needs(level)
    outcome = attempts(level, listeners)
    assert outcome.pop("sealed") == level
    assert "reached" not in outcome.values(), outcome


def test_namespace_alone_has_no_network_or_loopback(listeners: tuple[int, str]) -> None:
    needs("namespace alone")
    outcome = attempts("namespace alone", listeners)
    assert outcome.pop("sealed") is True
    beyond_network = {"unix", "unix_datagram", "datagram_pair"}  # these are files: what the filter is for
    assert {attempt for attempt, result in outcome.items() if result == "reached"} <= beyond_network


def test_filter_covers_running_threads() -> None:
    needs("seccomp")
    script = """
import json, queue, socket, threading
from localsynth.system.network_seal import seal
ready, result = threading.Event(), queue.Queue()
def late():
    ready.wait()
    try: socket.socket(); result.put("reached")
    except PermissionError: result.put("refused")
threading.Thread(target=late).start()
level = seal().level
ready.set()
print(json.dumps([level, result.get()]))
"""
    # A process with several threads gets no namespace, so the next best is taken.
    assert run(script) == ["seccomp", "refused"]


def test_subclasses_and_multiprocessing_do_not_escape_the_hook() -> None:
    script = """
import json, multiprocessing, os, socket
from localsynth.system.network_seal import seal
class Own(socket.socket): pass
def refused(attempt):
    try: attempt()
    except PermissionError: return True
    return False
level = seal("audit").level
context = multiprocessing.get_context("spawn")
attempts = [Own, context.Process(target=print).start, lambda: os.system("true"),
            lambda: os.posix_spawn("/bin/true", ["true"], {}), lambda: os.execv("/bin/true", ["true"])]
print(json.dumps([level, *map(refused, attempts)]))
"""
    assert run(script) == ["audit", True, True, True, True, True]


def test_no_core_dumps_and_no_access_by_other_processes() -> None:
    script = """
import ctypes, json, resource
from localsynth.system.network_seal import seal
seal()
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)]))
"""
    assert run(script) == [[0, 0], 0]


@pytest.mark.parametrize("level", sorted({AVAILABLE[0], "audit"}))
def test_sealed_process_can_work(level: str, tmp_path: Path) -> None:
    """Files keep their owner; threads, socket pairs, torch, DuckDB and llama.cpp work, under the strongest seal and weakest."""
    script = """
import json, os, pathlib, sys
from localsynth.system.network_seal import seal
before = (os.getuid(), os.getgid())
seal(sys.argv[2])
import concurrent.futures, socket, duckdb, llama_cpp, torch
place = pathlib.Path(sys.argv[1])
(place / "file").write_text("written")
owner = (place / "file").stat()
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    threads = list(pool.map(lambda x: x + 1, [1, 2]))
a, b = socket.socketpair(); a.send(b"x"); pair = b.recv(1).decode()
with duckdb.connect(str(place / "db.duckdb")) as db:
    db.execute("create table t as select 41 + 1 as x")
    rows = db.sql("select x from t").fetchall()
llama_cpp.llama_backend_init()
product = float((torch.ones(64, 64) @ torch.ones(64, 64)).sum())
print(json.dumps([before == (os.getuid(), os.getgid()) == (owner.st_uid, owner.st_gid), threads, pair, rows, product]))
"""
    assert run(script, str(tmp_path), level) == [True, [2, 3], "x", [[42]], 64.0**3]


def test_namespace_without_user_map_is_not_entered(tmp_path: Path) -> None:
    """Some systems allow the one and not the other; a process caught in between could make no files."""
    needs("seccomp")
    script = """
import json, os, pathlib, sys
from localsynth.system import network_seal
before = os.getuid()
network_seal._write_maps = lambda *_: False
level = network_seal.seal().level
pathlib.Path(sys.argv[1], "file").write_text("x")
print(json.dumps([level, os.getuid() == before]))
"""
    assert run(script, str(tmp_path)) == ["seccomp", True]


def test_available_levels() -> None:
    """So that a seal that broke is a failure here and not a skipped test."""
    if shutil.which("unshare") and subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"]).returncode == 0:
        assert "namespace" in AVAILABLE
    if platform.machine() in network_seal._ABIS and "Seccomp_filters" in Path("/proc/self/status").read_text():
        assert "seccomp" in AVAILABLE


def test_text_describes_the_level() -> None:
    script = "import json; from localsynth.system.network_seal import seal; s = seal({!r}); print(json.dumps([s.level, s.text]))"
    needs("seccomp")
    assert run(script.format("seccomp")) == ["seccomp", "No network: the kernel refuses this process every new connection."]
    level, text = run(script.format("audit"))
    assert level == "audit" and "written in C is not blocked" in text


def test_seal_that_does_not_hold_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every way to seal broken, the level is "none" and the text says so: no caller can take it for sealed."""
    for way in ("_move_to_empty_network", "_filter_system_calls", "_refuse_in_python"):
        monkeypatch.setattr(network_seal, way, lambda: False)
    monkeypatch.setattr(network_seal, "no_core_dumps", lambda: None)
    sealed = network_seal.seal()
    assert sealed.level == "none" and sealed.text.startswith("NOT sealed")


def test_testing_levels_does_not_seal_this_process() -> None:
    assert "audit" in AVAILABLE
    assert list(AVAILABLE) == [level for level in LEVELS if level in AVAILABLE]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM):
        pass


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_decisions(machine: str) -> None:
    """The program is run by a small interpreter of its own, for both processors."""
    abi = network_seal._ABIS[machine]

    def decide(number: int, *arguments: int, arch: int | None = None) -> bool:
        words = {0: number, 4: abi.audit_arch if arch is None else arch}
        words |= {16 + 8 * index: value for index, value in enumerate(arguments)}
        accumulator, at, program = 0, 0, network_seal._program(abi)
        while True:
            operation, if_true, if_false, operand = program[at]
            at += 1
            if operation == 0x20:
                accumulator = words[operand]
            elif operation == 0x54:
                accumulator &= operand
            elif operation == 0x06:
                return operand == 0x7FFF0000
            else:
                true = accumulator == operand if operation == 0x15 else accumulator >= operand
                at += if_true if true else if_false

    stream, datagram, raw, seqpacket, cloexec = 1, 2, 3, 5, 0o2000000
    for call in (abi.socket, abi.socketpair):
        assert decide(call, socket.AF_UNIX, stream | cloexec) and decide(call, socket.AF_UNIX, seqpacket)
        assert not decide(call, socket.AF_UNIX, datagram | cloexec) and not decide(call, socket.AF_UNIX, raw)
        for family in range(46):
            assert decide(call, family, stream) == (family == socket.AF_UNIX)
    for call in abi.refused:
        assert not decide(call, socket.AF_UNIX, stream)
    harmless = set(range(500)) - {*abi.refused, abi.socket, abi.socketpair}
    assert all(decide(call) for call in harmless)
    assert not any(decide(call, arch=0x40000003) for call in harmless)  # 32-bit x86
    if machine == "x86_64":
        assert not any(decide(call | 0x40000000) for call in harmless)  # x32
