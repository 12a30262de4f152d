"""`localsynth demo` as `make demo` runs it: minutes on the real base model."""

import csv
import os

import pytest

from localsynth.system.files import model_directory


@pytest.mark.slow
def test_the_demo_ends_in_rows_a_csv_and_a_valid_certificate(localsynth, tmp_path):
    localsynth.environment["LOCALSYNTH_MODELS"] = os.environ.get("LOCALSYNTH_MODELS") or str(model_directory())
    result = localsynth.ok("demo", "--json").json()
    with (tmp_path / result["csv"]).open() as file:
        assert len(list(csv.DictReader(file))) == result["rows"] == 150
    assert 0 < result["epsilon_spent"] <= 8
    assert localsynth.ok("verify", result["certificate"], "--json").json()["valid"]
    assert localsynth.ok("demo", "--json").json()["rows"] == 150, "a second demo shows the first one's result"
