"""The notebooks of the documentation run from their first cell to their last."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = [
    # Those that train a model take a minute or more, on the tiny one too.
    pytest.param(path, id=path.stem, marks=[] if path.stem == "transactions" else [pytest.mark.slow])
    for path in sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook(path: Path, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALSYNTH_NOTEBOOK_MODEL", str(tiny_model()))
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in shown)
    assert not any("Traceback" in str(output) for output in shown)
