"""The map of the house holds: imports point down, heavy libraries stay behind their doors, and starting is cheap.

The contracts themselves are in pyproject.toml, so that `make check` and this test judge the same thing.
"""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"localsynth": ROOT, "localsynth_models": ROOT / "models", "localsynth_tui": ROOT / "tui"}
HEAVY = {"dp_accounting", "duckdb", "llama_cpp", "opendp", "textual", "torch", "transformers"}


def run_python(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` against the packages of the checkout at `root`, whatever is installed."""
    path = os.pathsep.join([str(root), str(root / "models"), str(root / "tui")])
    surroundings = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], cwd=root, env=surroundings, capture_output=True, text=True, check=False)


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return run_python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))", root)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to break."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package, place in SOURCES.items():
        shutil.copytree(place / package, copy / place.relative_to(ROOT) / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_the_import_contracts_are_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("localsynth/llm/row_text.py", "from localsynth import pipeline", "Imports point down"),
        ("localsynth/schema/columns.py", "import localsynth.workspace.paths", "Imports point down"),
        ("localsynth/store/key.py", "import localsynth.export", "Imports point down"),
        ("models/localsynth_models/catalog.py", "import localsynth.config", "Imports point down"),
        ("localsynth/cli/main.py", "import localsynth_tui", "Imports point down"),
        ("localsynth/sample/sampler.py", "from localsynth.store.private import PrivateStore", "After training"),
        ("localsynth/llm/gguf_file.py", "import localsynth.store.private", "After training"),
        ("localsynth/export/merge.py", "import torch", "torch only"),
        ("localsynth/sample/sampler.py", "import llama_cpp", "llama.cpp only"),
        ("localsynth/pipeline/run.py", "import duckdb", "DuckDB only"),
        ("localsynth/presentation.py", "import textual", "Textual only"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copied: Path, file: str, line: str, contract: str) -> None:
    path = copied / file
    original = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{original}\n\ndef _deferred() -> None:\n    {line}\n", encoding="utf-8")
        result = lint_imports(copied)
    finally:
        path.write_text(original, encoding="utf-8")
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [report for report in result.stdout.splitlines() if report.endswith(" BROKEN")]
    assert any(report.startswith(contract) for report in broken), result.stdout


def names_in(path: Path) -> set[str]:
    """The attributes and strings of a module."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return strings | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_exact_counts_are_named_in_one_file_only() -> None:
    """Whatever is released of the original rows has noise: whoever needs a count asks `PrivateCounts`, and is charged."""
    exact = {"_codes", "_counts", "_counted", "_distances"}
    assert exact <= names_in(ROOT / "localsynth/marginals/mechanisms.py"), "a rename must be made here, too"
    for path in (ROOT / "localsynth").rglob("*.py"):
        if path.parent.name in ("marginals", "pipeline") and path.name != "mechanisms.py":
            assert not names_in(path) & exact, path


def test_every_module_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert not any(":" in layer for layer in layers), "rooms of one layer do not import each other"
    placed = {module for layer in layers for module in layer.replace(" ", "").split("|")}
    found = {f"localsynth.{path.stem}" for path in (ROOT / "localsynth").glob("*.py")}
    assert len(found) <= 7 + 1, "at most seven modules in the root, beside __init__"
    found |= {f"localsynth.{path.parent.name}" for path in (ROOT / "localsynth").glob("*/__init__.py")}
    found = found - {"localsynth.__init__"} | {"localsynth_models", "localsynth_tui"}
    assert found == placed, "give each new module its layer in pyproject.toml ([tool.importlinter])"


@pytest.mark.parametrize("module", ["localsynth.cli.main", "localsynth_tui"])
def test_starting_imports_nothing_heavy(module: str) -> None:
    result = run_python(f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})", ROOT)
    assert result.returncode == 0, result.stderr
    assert not HEAVY & set(result.stdout.split())
