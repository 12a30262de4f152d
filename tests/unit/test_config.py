"""`localsynth.toml` as it is read: what only localsynth may write is refused."""

import pytest

from localsynth.config import parse_config
from localsynth.errors import ConfigError

TEXT = """
[data]
source = "t.csv"

[[schema.columns]]
name = "kind"
kind = "text"

[[schema.columns]]
name = "age"
kind = "integer"
min = 0
max = 97
"""


@pytest.mark.parametrize("copied", ['measured = ["min", "max"]', "measured = []"])
def test_bounds_that_claim_to_be_measured_are_refused(copied: str) -> None:
    """Copied out of schema.json they would be taken for measured, and not be listed as declared in the certificate."""
    assert parse_config(TEXT, "here").schema_.columns[1].measured == []
    with pytest.raises(ConfigError) as caught:
        parse_config(TEXT + copied, "here")
    assert "here" in caught.value.message and "'age'" in caught.value.message and "only localsynth writes" in caught.value.message
    assert "declared" in caught.value.hint


DESCRIPTIONS = """
[data]
source = "t.csv"
[[schema.columns]]
name = "type"
kind = "category"
values = ["ham", "spam"]
descriptions = {%s}
"""


def test_descriptions_are_read() -> None:
    column = parse_config(DESCRIPTIONS % 'spam = "unwanted advertising"', "here").schema_.columns[0]
    assert column.spelled("spam") == "spam (unwanted advertising)" and column.spelled("ham") == "ham"


@pytest.mark.parametrize(
    ("descriptions", "says"),
    [
        ('sapm = "advertising"', "'sapm' has a description but is not in the list"),
        ('spam = " "', "one line of 1 to 200"),
        ('spam = "a\\nb"', "one line of 1 to 200"),
        (f'spam = "{"a" * 201}"', "one line of 1 to 200"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(descriptions: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(DESCRIPTIONS % descriptions, "here")


def test_a_value_that_reads_like_another_with_its_description_is_refused() -> None:
    text = DESCRIPTIONS.replace('["ham", "spam"]', '["a", "a (b)"]') % 'a = "b"'
    with pytest.raises(ConfigError, match="reads like another"):
        parse_config(text, "here")
