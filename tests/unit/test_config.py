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
