"""Network isolation ("seal") of the current process, irreversible.

There are three levels, strongest first: an empty network namespace; a seccomp filter, by which
the kernel refuses the system calls that make connections; a Python audit hook. The first two are
combined where both are allowed: the namespace also hides abstract Unix sockets, the filter also
blocks connections to local daemons that could connect for us (a name resolver, a container
engine). Threads and programs started later inherit both.

The seal blocks code that opens connections by habit or by mistake: telemetry, downloads, update
checks. It is no sandbox for a hostile program of the same user, which can write to files and to
other processes. Connections that are open before the seal stay open: start the process without
any.

Needs only the standard library and can be run as a script, `network_seal.py LEVEL`, which exits
with 0 if that level works. `available_levels` uses it, since a seal cannot be removed.
"""

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["namespace", "seccomp", "audit", "none"]

LEVELS: tuple[Level, ...] = ("namespace", "seccomp", "audit")
"""The levels, strongest first."""


@dataclass(frozen=True)
class Seal:
    """The isolation of this process; `text` describes it to the user."""

    level: Level
    text: str


IN_WORDS: dict[Level, str] = {
    "namespace": "No network: the kernel gave this process an empty network of its own",
    "seccomp": "No network: the kernel refuses this process every new connection",
    "audit": "No network from Python: it refuses connections and other programs; code written in C is not blocked",
    "none": "NOT sealed: this process can reach the network",
}
"""The description of each level for the user, without the full stop."""

Requirement = Literal["kernel", "any"]
"""The minimum isolation: by the kernel, or any."""


def meets(level: Level, requirement: Requirement) -> bool:
    """Whether `level` satisfies the requirement."""
    return level in ("namespace", "seccomp") if requirement == "kernel" else level != "none"


def seal(strongest: Level = "namespace") -> Seal:
    """Seal this process at the strongest level that works, at most `strongest`, and disable core dumps.

    Call it once, first thing in a new process: only a process with one thread can enter a namespace (importing torch
    or numpy starts more). Every level is tested by opening a connection. Does not raise: the caller decides what to do
    at level "none".
    """
    wanted = LEVELS[LEVELS.index(strongest) :]
    namespace = "namespace" in wanted and _move_to_empty_network()
    filtered = "seccomp" in wanted and _filter_system_calls()
    level: Level = "namespace" if namespace else "seccomp" if filtered else "audit" if _refuse_in_python() else "none"
    no_core_dumps()
    text = IN_WORDS[level]
    if namespace and filtered:
        text += ", and refuses new connections"
    return Seal(level, text + ".")


def available_levels() -> list[Level]:
    """The levels that work on this machine, strongest first, each tested in a process of its own (about 30 ms)."""
    command = [sys.executable, "-I", "-S", __file__]
    return [level for level in LEVELS if subprocess.run([*command, level], capture_output=True, timeout=20).returncode == 0]


# --- what all levels share


def _c_library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _connection_error() -> int:
    """The errno of a UDP "connection" to a documentation address (RFC 5737); 0 if it works. Sends nothing either way."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
    except OSError as error:
        return error.errno or errno.EPERM
    return 0


_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


def no_core_dumps() -> None:
    """Disable core dumps and other processes' access to this one's memory, which holds original rows or a passphrase.

    The limit also holds for processes that it starts.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _c_library().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


# --- namespace

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def _move_to_empty_network() -> bool:
    """Move this process to a new user and network namespace, where not even loopback is up; False where that is not allowed."""
    if sys.platform != "linux" or len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    # Tested in a child first: some systems allow the namespace but not its user map, and a process without one can
    # create no files.
    if not _works_in_a_child(_enter_namespace):
        return False
    before = Path("/proc/self/ns/net").readlink()
    return _enter_namespace() and Path("/proc/self/ns/net").readlink() != before and _connection_error() != 0


def _works_in_a_child(attempt: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        worked = False
        try:
            worked = attempt()
        finally:
            os._exit(0 if worked else 1)
    return os.waitpid(child, 0)[1] == 0


def _enter_namespace() -> bool:
    """Unshare, and map every user and group to itself, so that the owners of files do not change.

    Only a process that stayed outside may write a map of more than one user (which root needs for files of others), so a
    child does it and waits for its turn.
    """
    process, user, group = os.getpid(), os.geteuid(), os.getegid()
    turn, signal_turn = os.pipe()
    child = os.fork()
    if child == 0:
        mapped = False
        try:
            os.close(signal_turn)
            mapped = os.read(turn, 1) == b"+" and _write_maps(process, user, group)
        finally:
            os._exit(0 if mapped else 1)
    os.close(turn)
    entered = _c_library().unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    os.write(signal_turn, b"+" if entered else b"-")
    os.close(signal_turn)
    return os.waitpid(child, 0)[1] == 0 and entered


def _write_maps(process: int, user: int, group: int) -> bool:
    """Write the user and group map of `process`: everyone where we may, else the one user and group it has."""
    ours = Path("/proc/self")
    target = Path(f"/proc/{process}")
    try:
        for name in ("uid_map", "gid_map"):
            (target / name).write_text(_identity((ours / name).read_text()))
        return True
    except OSError:
        pass
    try:
        (target / "setgroups").write_text("deny")  # the kernel's condition for an unprivileged group map, see user_namespaces(7)
        (target / "gid_map").write_text(f"{group} {group} 1\n")
        (target / "uid_map").write_text(f"{user} {user} 1\n")
    except OSError:
        return False
    return True


def _identity(outer_map: str) -> str:
    """Every id of the outer map's lines (inside, outside, count), mapped to itself."""
    ranges = [line.split() for line in outer_map.splitlines()]
    return "".join(f"{first} {first} {count}\n" for first, _, count in ranges)


# --- seccomp


@dataclass(frozen=True)
class _Abi:
    """The numbers of one processor's system calls (arch/*/syscall.tbl and asm-generic/unistd.h of the kernel)."""

    audit_arch: int
    seccomp: int
    socket: int
    socketpair: int
    refused: tuple[int, ...]
    """connect, ptrace, setns, process_vm_writev, bpf, io_uring_setup, pidfd_getfd: connections, and ways to use another
    process's. connect is refused because of local daemons: a name resolver behind a Unix socket has network access."""


_ABIS = {
    "x86_64": _Abi(0xC000003E, 317, 41, 53, (42, 101, 308, 311, 321, 425, 438)),
    "aarch64": _Abi(0xC00000B7, 277, 198, 199, (203, 117, 268, 271, 280, 425, 438)),
}
_X32_BIT = 0x40000000

# Classic BPF, see <linux/bpf_common.h> and <linux/filter.h>: (operation, offset if true, offset if false, operand).
_Instruction = tuple[int, int, int, int]
_LOAD_WORD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST = 0x15, 0x35
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
"""Offsets in struct seccomp_data; an argument takes 8 bytes, and both ABIs are little-endian."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM

_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1


def _program(abi: _Abi) -> list[_Instruction]:
    """The filter: everything is allowed but `refused`, sockets other than Unix streams, and calls by another ABI."""
    # A Unix stream as such is harmless without connect: CUDA makes one, a socketpair connects to itself, and threads and
    # asyncio use that. A datagram socket can send without connect.
    unix_streams: list[_Instruction] = [
        (_LOAD_WORD, 0, 0, _ARGUMENTS_AT),
        (_JUMP_IF_EQUAL, 0, 4, socket.AF_UNIX),
        (_LOAD_WORD, 0, 0, _ARGUMENTS_AT + 8),
        (_AND, 0, 0, 0xF),  # the type without its flags
        (_JUMP_IF_EQUAL, 2, 0, socket.SOCK_STREAM),
        (_JUMP_IF_EQUAL, 1, 0, socket.SOCK_SEQPACKET),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program: list[_Instruction] = [
        (_LOAD_WORD, 0, 0, _ARCH_AT),
        (_JUMP_IF_EQUAL, 1, 0, abi.audit_arch),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
    ]
    if abi is _ABIS["x86_64"]:  # the x32 ABI shares its audit_arch and would offer every call under a second number
        program += [(_JUMP_IF_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _REFUSE)]
    for number in abi.refused:
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number in (abi.socket, abi.socketpair):
        program += [(_JUMP_IF_EQUAL, 0, len(unix_streams), number), *unix_streams]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _filter_system_calls() -> bool:
    """Install the filter on all threads of this process; False where the kernel or the processor has none."""
    abi = _ABIS.get(platform.machine())
    if sys.platform != "linux" or abi is None or sys.maxsize < 2**32:
        return False
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(abi))
    instructions = ctypes.create_string_buffer(packed, len(packed))
    header = ctypes.create_string_buffer(
        struct.pack("@HP", len(packed) // 8, ctypes.addressof(instructions))
    )  # struct sock_fprog
    library = _c_library()
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    arguments = [ctypes.c_long(number) for number in (abi.seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC)]
    return library.syscall(*arguments, header) == 0 and _connection_error() == errno.EPERM


# --- audit hook

_PROGRAMS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.forkpty", "pty.spawn"})
"""A program that is not this interpreter would run without the hook. A plain fork keeps it."""


def _refuse_in_python() -> bool:
    """Let Python refuse sockets and other programs. Code written in C that opens its own sockets is not blocked."""
    import _posixsubprocess

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket."):
            local = event == "socket.gethostname" or (event == "socket.__new__" and arguments[1] == socket.AF_UNIX)
            if not local:
                raise PermissionError(errno.EPERM, "This process is sealed off the network")
        elif event in _PROGRAMS:
            raise PermissionError(errno.EPERM, "This process is sealed and may not start other programs")

    def refuse_start(*_arguments: Any, **_named: Any) -> int:
        raise PermissionError(errno.EPERM, "This process is sealed and may not start other programs")

    sys.addaudithook(refuse)
    # multiprocessing starts its interpreters through this function, which raises no audit event.
    _posixsubprocess.fork_exec = refuse_start
    return _connection_error() == errno.EPERM


if __name__ == "__main__":
    asked = next(level for level in LEVELS if level == sys.argv[1])
    sys.exit(0 if seal(asked).level == asked else 1)
