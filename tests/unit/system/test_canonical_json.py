"""One spelling for each value, one value for each spelling."""

from pathlib import Path

import pytest

from localsynth.errors import IntegrityError
from localsynth.system.canonical_json import canonical_json, parse_json
from localsynth.system.files import read_json, write_json

WRONG = [
    ('{"a": 1, "b": 2, "a": 1}', "holds the key 'a' twice"),
    ('[{"b": {"a": 1, "a": 2}}]', "holds the key 'a' twice"),
    ('{"a": ' + "7" * 5000 + "}", "holds a number that is too long"),
    ("[" * 100_000, "is nested too deeply"),
    ("{", "is not JSON"),
]


@pytest.mark.parametrize(("text", "wrong"), WRONG)
def test_ambiguous_json_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_json(text)
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(IntegrityError, match=wrong):
        read_json(tmp_path / "file.json")


def test_damaged_file_is_named_without_its_values(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": "secret", "a": "secret too"}')
    with pytest.raises(IntegrityError, match=r"file\.json is damaged") as caught:
        read_json(path)
    assert "secret" not in str(caught.value) + caught.value.message
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(IntegrityError, match="is not UTF-8 text"):
        read_json(path)


def test_other_json_is_parsed(tmp_path: Path) -> None:
    value = {"a": [1, -2.5, None, True, {"a": "ü"}], "b": {"a": 2**63}}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value == parse_json(canonical_json(value).decode())
