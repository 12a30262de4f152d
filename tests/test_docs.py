"""What the documents and the help say is true of the code."""

import ast
import importlib.util
import math
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import astuple
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

from localsynth.cli.main import app

ROOT = Path(__file__).parent.parent


def commands(group=None, prefix=""):
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_help_an_example_and_json(name, command):
    assert command.help
    assert (command.epilog or "").startswith(f"Example: localsynth {name}")
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name in ("workspace", "help"), (name, parameter.name)


def test_commands_in_the_readme_exist():
    known = {name for name, _ in commands()}
    used = set(re.findall(r"(?:^|/|`)localsynth ((?:models )?[a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert used and used <= known, used - known


def test_the_readme_names_only_files_that_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def packaging_script(name):
    """A script of packaging/, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GUARANTEE = (ROOT / "docs" / "guarantee.md").read_text(encoding="utf-8")
CLAIMS = tomllib.loads((ROOT / "docs" / "guarantee.toml").read_text(encoding="utf-8"))["claim"]


def defined_names(path):
    """Functions, classes and their methods (`Class.method`) that a file defines at its top."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def is_wrong(pointer):
    """Whether "path" or "path::Name" leads nowhere."""
    path, separator, name = pointer.partition("::")
    return not (ROOT / path).is_file() or (bool(separator) and name not in defined_names(ROOT / path))


def claims_by_card():
    """The ids of each card's line "Claims.", by the card's heading. "G-001 to G-003" names three."""
    for card in GUARANTEE.split("\n## ")[1:]:
        for line in re.findall(r"\*\*Claims\.\*\* (.*)", card):
            ranges = re.findall(r"G-(\d{3})(?: to G-(\d{3}))?", line)
            yield card.partition("\n")[0], [f"G-{n:03}" for a, b in ranges for n in range(int(a), int(b or a) + 1)]


def test_every_pointer_of_a_claim_leads_to_code_or_a_test():
    pointers = [pointer for claim in CLAIMS for pointer in [*claim["code"], *claim.get("tests", [])]]
    assert len(pointers) > 300, "the pointers were not found"
    assert [pointer for pointer in pointers if is_wrong(pointer)] == []


@pytest.mark.parametrize(
    "pointer",
    [
        "localsynth/privacy/ledgers.py",
        "localsynth/privacy/ledger.py::Ledger.refund",
        "ledger.py::Ledger",
        "tests/unit/privacy/test_ledger.py::test_nothing",
        "localsynth/privacy",
    ],
)
def test_a_wrong_pointer_is_found(pointer):
    assert is_wrong(pointer)


def test_every_claim_has_code_and_tests_or_a_reason_why_not():
    for claim in CLAIMS:
        assert claim.keys() - {"tests", "untested"} == {"id", "section", "claim", "code"}, claim
        assert claim["code"] and not any(pointer.startswith("tests/") for pointer in claim["code"]), claim["id"]
        assert bool(claim.get("tests")) != bool(claim.get("untested")), claim["id"]
        assert all(pointer.startswith("tests/") and "::test_" in pointer for pointer in claim.get("tests", [])), claim["id"]


def test_every_claim_has_its_own_id_and_is_named_by_the_card_of_its_section():
    sections = {}
    for claim in CLAIMS:
        sections.setdefault(claim["section"], []).append(claim["id"])
    ids = [claim["id"] for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert list(claims_by_card()) == [(section, sorted(ids)) for section, ids in sections.items()]
    assert set(re.findall(r"G-\d{3}", GUARANTEE)) <= set(ids)


def test_the_table_of_claims_is_what_the_guarantee_says():
    script = packaging_script("docs_claims")
    assert script.TARGET.read_text(encoding="utf-8") == script.page(), "write it again with: make docs"


def test_the_factors_of_the_guarantee_are_those_of_its_epsilons():
    assert f"{math.exp(1):.1f} for ε = 1, {math.exp(4):.0f} for ε = 4 and {math.exp(8):,.0f} for ε = 8" in GUARANTEE


def test_the_group_figures_of_the_guarantee_are_those_of_the_code():
    from localsynth.config import TrainConfig
    from localsynth.privacy.account import Account
    from localsynth.privacy.accountant import epsilon_of, group_epsilon, max_repetitions
    from localsynth.train.plan import make_train_plan

    units, epsilon, delta = 9000, 3.6, 9e-7
    assert f"{units:,} expected units, ε {epsilon} and δ 9e-7 for training, default settings" in GUARANTEE
    plan = make_train_plan(TrainConfig(), units, Account(epsilon, delta).noise)
    most = max_repetitions(lambda n: epsilon_of([plan.step_mechanism] * n, delta) <= epsilon)
    assert (
        f"q = {plan.sample_rate:.4f}, σ = {plan.noise_multiplier:.3f}, {plan.steps} steps and a reserve of {plan.reserve};"
        f" the budget has room for {most} steps" in GUARANTEE
    )
    found = [group_epsilon([plan.step_mechanism] * most, delta, k)[0] for k in (2, 5, 10)]
    two, five, ten = (f"{math.ceil(10 * figure) / 10:.1f}" for figure in found)
    assert "| units together | 1 | 2 | 5 | 10 |" in GUARANTEE
    assert f"| ε | {epsilon:.2f} | {two} | {five} | {ten} |" in GUARANTEE


def test_what_attacks_can_gain_is_what_the_code_computes():
    from localsynth.config import TrainConfig
    from localsynth.presentation import percent_at_most
    from localsynth.privacy.account import Account
    from localsynth.privacy.risk import risks_of
    from localsynth.train.plan import make_train_plan

    def found(epsilon, delta):
        """The bounds of a declared run, and those of nothing but its ε and δ."""
        account = Account(epsilon, delta)
        steps = make_train_plan(TrainConfig(), 9000, account.noise).all_steps
        # Half of the budget twice: two budgets count with their sums.
        halves = [(Account(epsilon / 2, delta / 2), [{"type": "pure_dp", "epsilon": 1e-6}])] * 2
        both = [risks_of([(account, [steps])]), risks_of(halves)]
        return list(zip(*[[astuple(risk) for risk in (*risks.membership, *risks.inference)] for risks in both], strict=True))

    rates = ["false-positive rate"] * 3 + ["base rate"] * 3
    for rate, ((without, by_curve), (_, by_pair)) in zip(rates, found(3.6, 9e-7), strict=True):
        assert f"| {rate} {' | '.join(percent_at_most(part) for part in (without, by_curve, by_pair))} |" in GUARANTEE
    explanation = (ROOT / "docs" / "explanation.md").read_text(encoding="utf-8")
    for epsilon in (1, 4, 8):
        (_, ((_, member), (_, member_by_pair)), *_, ((_, guess), (_, guess_by_pair)), _) = found(epsilon, 1e-6)
        assert f"| {epsilon} | {percent_at_most(member)} | {percent_at_most(guess)} |" in explanation
        told = f"at ε = {epsilon} that is {percent_at_most(member_by_pair)} and {percent_at_most(guess_by_pair)}"
        assert (told in explanation) is (epsilon == 4)


def test_the_reference_is_what_the_code_says():
    script = packaging_script("docs_reference")
    assert script.TARGET.read_text(encoding="utf-8") == script.reference(), "write it anew with: make docs"


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_man_page_is_read_without_a_warning():
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", ROOT / "docs" / "localsynth.1"], capture_output=True, text=True)
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert done.returncode == 0 and not done.stderr
    assert "--for-spreadsheets" in text and "the privacy budget is spent" in text and "max_rows_per_unit" in text


def test_the_picture_of_the_layers_is_that_of_the_contract():
    script = packaging_script("docs_layers")
    text = script.TARGET.read_text(encoding="utf-8")
    assert text == script.written(text), "write it again with: make docs"


def test_every_key_of_the_configuration_is_explained_in_the_reference():
    script = packaging_script("docs_reference")
    for section in [*script.SECTIONS.values(), script.columns.Schema, *script.COLUMN_KINDS]:
        for key, (_, text) in script.inherited_notes(section).items():
            assert text or key in ("name", "kind", "columns"), f"{section.__name__}.{key} has no docstring"


def test_the_reference_says_not_set_instead_of_none():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert "None:" not in text and "; Not set:" not in text


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The HTML documentation. Building it fails where a link leads to no file."""
    out = tmp_path_factory.mktemp("site")
    return out, packaging_script("docs_html").build(out)


def test_links_between_html_pages_lead_to_pages_and_headings(site):
    out, written = site
    assert out / "index.html" in written
    for page in written:
        for href in map(unquote, re.findall(r'href="([^"]+\.html(?:#[^"]*)?)"', page.read_text(encoding="utf-8"))):
            path, _, fragment = href.partition("#")
            if ":" in path:
                continue
            target = (page.parent / path).resolve()
            assert target in [p.resolve() for p in written], f"{page.name}: {href}"
            assert not fragment or f'id="{fragment}"' in target.read_text(encoding="utf-8"), f"{page.name}: {href}"


def test_html_pages_fetch_nothing(site):
    for page in site[1]:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"<code>.*?</code>", "", text, flags=re.S)
        assert "<script" not in text and "<link" not in text
        for source in re.findall(r'src="([^"]*)"', text):
            assert (page.parent / source).is_file(), f"{page.name}: a picture that is not beside it"
        assert text.count("src=") == len(re.findall(r'<img src="[^":]*"', text))


def test_commands_in_the_documents_exist():
    known = {name for name, _ in commands()}
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]:
        named = r"^(?:\$ )?(?:\.venv/bin/)?localsynth ((?:(?:models|bench|config) )?[a-z-]+)"
        used = set(re.findall(named, path.read_text(), re.MULTILINE))
        assert used <= known, (path.name, used - known)


def test_options_and_keys_in_the_documents_exist():
    options = {option for _, command in commands() for p in command.params for option in [*p.opts, *p.secondary_opts]}
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for line in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?localsynth .*", path.read_text(encoding="utf-8"), re.MULTILINE):
            used = set(re.findall(r"(?<!\S)--[a-z][a-z-]+", line))
            assert used <= options | {"--help"}, (path.name, line)
            for key in re.findall(r"--set [a-z]+\.([a-z_]+)=", line):
                assert f"| `{key}` |" in reference, (path.name, line)


def documented_lines():
    """(document, command line) of every `localsynth ...` in a block of code, without prompt, comment and redirection."""
    for path in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for block in re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?(localsynth .*)", block, re.MULTILINE):
                if "[OPTIONS]" not in line:  # a usage line of the reference
                    yield path.name, re.sub(r"\s\d?<.*", "", line)


@pytest.mark.parametrize(("document", "line"), list(documented_lines()))
def test_command_lines_in_the_documents_are_read_by_the_real_command_line(document, line):
    _, *words = shlex.split(line, comments=True)
    command, context = typer.main.get_command(app), None
    while hasattr(command, "commands"):
        context = command.make_context("localsynth", list(words), parent=context, resilient_parsing=True)
        name, command, words = command.resolve_command(context, words)  # type: ignore[attr-defined]
    command.make_context(name, words, parent=context)
