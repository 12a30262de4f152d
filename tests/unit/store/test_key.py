"""The key of the original rows, with a passphrase and without."""

import json
import os
from pathlib import Path

import pytest

from localsynth.errors import ConfigError, IntegrityError, LocalsynthError
from localsynth.store.key import (
    change_passphrase,
    check_passphrase,
    destroy_key,
    is_wrapped,
    key_path,
    make_key,
    read_key,
)
from localsynth.system.files import read_json
from localsynth.workspace.paths import Workspace

WORDS = "correct horse Grüße"


def test_wrapped_key_needs_the_passphrase(workspace: Workspace) -> None:
    key = make_key(workspace)
    assert key_path(workspace).read_text().strip() == key and not is_wrapped(workspace)
    change_passphrase(workspace, WORDS)
    text = key_path(workspace).read_text()
    assert is_wrapped(workspace) and key not in text and WORDS not in text
    assert key_path(workspace).stat().st_mode & 0o777 == 0o600
    assert read_key(Workspace(workspace.root, WORDS)) == key
    assert read_key(Workspace(workspace.root, "correct horse Gru\u0308ße")) == key, "typed on another keyboard"
    with pytest.raises(ConfigError, match="protected by a passphrase") as none_given:
        read_key(workspace)
    assert "--passphrase-fd" in none_given.value.hint
    with pytest.raises(IntegrityError, match="passphrase is wrong") as wrong:
        read_key(Workspace(workspace.root, "correct horse"))
    assert "is lost" in wrong.value.hint and "localsynth ingest" in wrong.value.hint


def test_changing_the_passphrase_keeps_the_key(workspace: Workspace) -> None:
    key = make_key(workspace)
    change_passphrase(workspace, WORDS)
    with pytest.raises(IntegrityError):
        change_passphrase(Workspace(workspace.root, "not this one"), "another one")
    change_passphrase(Workspace(workspace.root, WORDS), "another one")
    assert read_key(Workspace(workspace.root, "another one")) == key
    with pytest.raises(IntegrityError):
        read_key(Workspace(workspace.root, WORDS))
    change_passphrase(Workspace(workspace.root, "another one"), None)
    assert read_key(workspace) == key and not is_wrapped(workspace)
    assert read_json(workspace.identity_path)["passphrase"] is False


def test_wrapping_overwrites_the_unwrapped_key(workspace: Workspace, tmp_path: Path) -> None:
    make_key(workspace)
    os.link(key_path(workspace), tmp_path / "same-inode")
    change_passphrase(workspace, WORDS)
    assert (tmp_path / "same-inode").read_bytes() == bytes(65)


def test_replacement_of_a_lost_key_is_wrapped(workspace: Workspace) -> None:
    change_passphrase(workspace, WORDS)
    key_path(workspace).unlink()
    assert is_wrapped(workspace)
    with pytest.raises(ConfigError, match="passphrase"):
        make_key(workspace)
    with pytest.raises(ConfigError, match="passphrase"):
        check_passphrase(workspace)
    fresh = make_key(Workspace(workspace.root, WORDS))
    assert fresh not in key_path(workspace).read_text() and read_key(Workspace(workspace.root, WORDS)) == fresh


def test_bare_key_of_killed_change_is_swept_on_next_use(workspace: Workspace, tmp_path: Path) -> None:
    change_passphrase(workspace, WORDS)
    opened = Workspace(workspace.root, WORDS)
    part = workspace.keys_path / ".private.key.0a1b.part"
    part.write_text(read_key(opened) + "\n")
    os.link(part, tmp_path / "same-inode")
    read_key(opened)
    assert not part.exists() and set((tmp_path / "same-inode").read_bytes()) == {0}
    part.write_text("left again")
    change_passphrase(opened, "another one")
    assert not part.exists()


def test_bare_key_is_refused_where_workspace_has_passphrase(workspace: Workspace) -> None:
    change_passphrase(workspace, WORDS)
    key = read_key(Workspace(workspace.root, WORDS))
    for opened in (workspace, Workspace(workspace.root, WORDS)):
        key_path(workspace).write_text(key + "\n")
        with pytest.raises(IntegrityError, match="not protected by a passphrase") as error:
            read_key(opened)
        assert "localsynth passphrase" in error.value.hint and key not in str(error.value)
    change_passphrase(workspace, WORDS)
    assert read_key(Workspace(workspace.root, WORDS)) == key
    key_path(workspace).write_text(key + "\n")
    change_passphrase(workspace, None)
    assert read_key(workspace) == key


def test_wrapped_key_of_another_workspace_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    change_passphrase(workspace, WORDS)
    other = Workspace.create(tmp_path / "other")
    key_path(other).write_text(key_path(workspace).read_text())
    with pytest.raises(IntegrityError):
        read_key(Workspace(other.root, WORDS))


def test_flipped_bits_of_a_wrapped_key_are_detected(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    change_passphrase(workspace, WORDS)
    opened, whole = Workspace(workspace.root, WORDS), key_path(workspace).read_bytes()
    key = read_key(opened)
    # scrypt is what takes the time here, and its salt is one of the fields.
    monkeypatch.setattr("localsynth.store.key._derive", lambda passphrase, salt: (salt * 2)[:32])
    change_passphrase(workspace_with_plain(opened, key), WORDS)
    whole = key_path(workspace).read_bytes()
    for at in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 7)
        if damaged.strip().lower() == whole.strip():
            continue  # a hexadecimal digit in capitals is the same digit
        key_path(workspace).write_bytes(damaged)
        with pytest.raises(LocalsynthError):
            assert read_key(opened) != key, at


def workspace_with_plain(workspace: Workspace, key: str) -> Workspace:
    key_path(workspace).write_text(key)
    return Workspace(workspace.root, None)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "{", '{"format": 1}', "0" * 63, '{"format": 1, "salt": 7, "nonce": "", "wrapped": ""}', "[]"],
)
def test_malformed_key_files_are_refused(workspace: Workspace, content: str) -> None:
    make_key(workspace)
    key_path(workspace).write_text(content)
    with pytest.raises(IntegrityError, match="does not hold a key"):
        read_key(Workspace(workspace.root, WORDS))


def test_destroying_a_wrapped_key_needs_no_passphrase(workspace: Workspace) -> None:
    change_passphrase(workspace, WORDS)
    (workspace.keys_path / ".private.key.77.part").write_text(json.dumps({}))
    destroy_key(workspace)
    assert list(workspace.keys_path.iterdir()) == []
    destroy_key(workspace)


def test_passphrase_is_not_in_repr(workspace: Workspace) -> None:
    assert WORDS not in repr(Workspace(workspace.root, WORDS))
