"""What importing the training settles before any of its libraries is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# As the package of this name: bitsandbytes asks it for code from a model hub, which it downloads.
KERNELS = """
import os
def get_kernel(*arguments, **options):
    open(os.environ["ASKED"], "w").close()
    raise OSError("no network")
"""


@pytest.mark.parametrize("entry", ["localsynth.train.model", "localsynth.bench.train"])
def test_no_code_is_loaded_from_a_model_hub(tmp_path: Path, entry: str) -> None:
    pytest.importorskip("bitsandbytes")
    (tmp_path / "kernels.py").write_text(KERNELS)
    # bitsandbytes asks on processors with AVX512-BF16 only; that nothing could be found holds on all.
    code = f"""
import {entry}, bitsandbytes, huggingface_hub, importlib.util
print(huggingface_hub.constants.HF_HUB_OFFLINE, importlib.util.find_spec("kernels"))
"""
    surroundings = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    surroundings |= {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "ASKED": str(tmp_path / "asked")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=surroundings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True None"
    assert not (tmp_path / "asked").exists()
    assert "kernels" not in done.stderr
