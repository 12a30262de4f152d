"""The errors a user can meet, as one tree, and the exit code of each.

    LocalsynthError
    ├── ConfigError      2   a wrong option, key or value: nothing was started
    ├── DataError        3   the source table cannot be used as it is
    ├── BudgetError      4   the privacy budget does not allow it, or a privacy warning was not accepted
    ├── ResourceError    5   memory, disk, network or another process is in the way
    ├── IntegrityError   6   a file is not what its hash, signature or chain says
    └── Cancelled      130   the user stopped it; what was done is kept

Every message says what is wrong *and what to do*. A message may name a file, a row number or a column,
never a value of the original table. Anything else that escapes is a bug (exit code 70).
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every `localsynth` command."""

    OK = 0
    USAGE = 2
    DATA = 3
    BUDGET = 4
    RESOURCES = 5
    INTEGRITY = 6
    BUG = 70
    CANCELLED = 130


EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.USAGE: "the command line or the configuration is wrong",
    ExitCode.DATA: "the table does not fit",
    ExitCode.BUDGET: "the privacy budget is spent or too small",
    ExitCode.RESOURCES: "memory, disk, network or a part of the installation is missing",
    ExitCode.INTEGRITY: "a file is not what its hash or signature says",
    ExitCode.CANCELLED: "stopped by ctrl-C",
    ExitCode.BUG: "a bug: please report it",
}
"""What each code means."""


class LocalsynthError(Exception):
    """Base of all errors with a message for the user.

    `message` says what is wrong, `hint` (optional) what to do about it.
    """

    exit_code = ExitCode.BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            # A notebook shows it below the message.
            self.add_note(hint)


class ConfigError(LocalsynthError):
    """A wrong option, configuration key or value."""

    exit_code = ExitCode.USAGE


class DataError(LocalsynthError):
    """The source table cannot be used as it is."""

    exit_code = ExitCode.DATA


class BudgetError(LocalsynthError):
    """The privacy budget does not allow what was asked for."""

    exit_code = ExitCode.BUDGET


class ResourceError(LocalsynthError):
    """Memory, disk, the network or another process is in the way."""

    exit_code = ExitCode.RESOURCES


class IntegrityError(LocalsynthError):
    """A file is not what its hash, its signature or the ledger's chain says."""

    exit_code = ExitCode.INTEGRITY


class Cancelled(LocalsynthError):
    """The user stopped the run."""

    exit_code = ExitCode.CANCELLED
