"""Asking for a passphrase: on a terminal or from a descriptor, never silently without one."""

import getpass
import os
import sys

import pytest

from localsynth.cli.prompt import ask_passphrase
from localsynth.errors import Cancelled, ConfigError


def piped(content: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


@pytest.fixture
def typed(monkeypatch):
    """Answers typed at a terminal, in turn; the prompts that were shown."""
    shown, answers = [], []

    def answer(prompt):
        shown.append(prompt)
        if not answers:
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr(getpass, "getpass", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    return shown, answers


def test_the_first_line_of_a_descriptor_is_the_passphrase():
    assert ask_passphrase("ws", piped("gute Wörter\r\nmore\n".encode())) == "gute Wörter"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\n"])
def test_an_unusable_descriptor_is_refused(content):
    with pytest.raises(ConfigError):
        ask_passphrase("ws", piped(content))
    with pytest.raises(ConfigError, match="no passphrase can be read"):
        ask_passphrase("ws", 987)


def test_a_new_passphrase_is_typed_twice(typed):
    shown, answers = typed
    answers += ["long enough", "long enough"]
    assert ask_passphrase("ws", new=True) == "long enough" and len(shown) == 2
    answers += ["long enough", "long enouhg"]
    with pytest.raises(ConfigError, match="differ"):
        ask_passphrase("ws", new=True)


def test_an_existing_passphrase_is_typed_once_and_may_be_short(typed):
    shown, answers = typed
    answers.append("old")
    assert ask_passphrase("ws") == "old" and len(shown) == 1


def test_a_short_new_passphrase_and_an_empty_answer_are_refused(typed):
    typed[1].extend(["short", "short"])
    with pytest.raises(ConfigError, match="fewer than 8"):
        ask_passphrase("ws", new=True)
    with pytest.raises(Cancelled):
        ask_passphrase("ws")


def test_without_a_terminal_the_error_names_passphrase_fd(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(ConfigError, match="no terminal") as caught:
        ask_passphrase("ws")
    assert "--passphrase-fd" in caught.value.hint
