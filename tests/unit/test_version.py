"""`localsynth --version` answers, at once."""

import subprocess
import sys
from importlib.metadata import version

CODE = """
import sys
from localsynth.start import main
sys.argv = ["localsynth", "--version"]
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "pydantic", "duckdb", "llama_cpp", "textual"})
"""


def test_the_version_is_told_without_loading_anything_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"localsynth {version('localsynth')}\n\n"
