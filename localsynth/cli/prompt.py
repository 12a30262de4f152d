"""Asks for the passphrase of a workspace's key, on the terminal or from a file descriptor that a script opened.

Never from an argument or an environment variable: other processes can read both.
"""

import getpass
import os
import sys

from localsynth.errors import Cancelled, ConfigError
from localsynth.store.key import MIN_LENGTH
from localsynth.system.network_seal import no_core_dumps


def ask_passphrase(what: str, descriptor: int | None = None, *, new: bool = False) -> str:
    """The passphrase of `what`, from the first line of `descriptor` or, without one, typed at the terminal.

    A new passphrase is asked for twice. Raises ConfigError where there is no terminal, or a new one is too short.
    """
    no_core_dumps()
    if descriptor is not None:
        answer = _first_line(descriptor)
    else:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"{what} needs a passphrase, and there is no terminal to ask on.", "Give it with --passphrase-fd N."
            )
        try:
            answer = getpass.getpass(f"{'New passphrase' if new else 'Passphrase'} of {what}: ")
            if new and getpass.getpass("The same again: ") != answer:
                raise ConfigError("The two passphrases differ.", "Start the command again.")
        except EOFError:
            raise Cancelled("No passphrase was given.") from None
    if not answer:
        raise ConfigError(f"The passphrase of {what} is empty.", "Start the command again.")
    if new and len(answer) < MIN_LENGTH:
        raise ConfigError(f"The passphrase has fewer than {MIN_LENGTH} characters.", "Choose a longer one, such as a sentence.")
    return answer


def _first_line(descriptor: int) -> str:
    try:
        # Not closed here: the caller opened it.
        with os.fdopen(os.dup(descriptor), encoding="utf-8") as file:
            return file.readline().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError, OverflowError):
        raise ConfigError(
            f"--passphrase-fd {descriptor}: no passphrase can be read there.",
            "Open it in the shell: localsynth run WS --passphrase-fd 3 3< FILE",
        ) from None
