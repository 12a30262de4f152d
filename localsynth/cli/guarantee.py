"""The commands that check the guarantee and protect or erase the original rows."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from localsynth.cli.options import PassphraseFd, Workspace
from localsynth.cli.output import command
from localsynth.errors import Cancelled, ConfigError

app = typer.Typer()

Result = dict[str, Any]


def _verify_text(report: Result) -> str:
    lines = [report["summary"] + "\n"]
    lines += [f"  {finding['status']:<12} {finding['name']}: {finding['text']}" for finding in report["findings"]]
    if report["not_covered"]:
        lines += ["\nNot covered:", *(f"  - {sentence}" for sentence in report["not_covered"])]
    return "\n".join([*lines, f"\n{report['verdict']}"])


@command(
    app,
    example="localsynth verify visits/runs/ID/certificate.json",
    show=_verify_text,
    failed=lambda report: not report["valid"],
)
def verify(
    path: Annotated[Path, typer.Argument(metavar="CERT|GGUF", help="A certificate, or a model that carries one.")],
    key: Annotated[
        str | None, typer.Option("--key", metavar="FINGERPRINT", help="The signer's fingerprint, if you know it.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="An exported table, with its manifest beside it.")
    ] = None,
) -> Result:
    """Recompute the guarantee and check hashes and signature. Needs no private data and no network."""
    from localsynth.verification.file import verify_file

    return verify_file(path, key, table)


def _erase_text(result: Result) -> str:
    lines = [f"Erased: the key, and {', '.join(result['removed']) or 'nothing else (it was already gone)'}."]
    if result["left"]:
        lines.append(f"Left, because localsynth did not make it: {', '.join(result['left'])}.")
    # The first of what is out of reach is the source file.
    source, *others = result["record"]["out_of_reach"]
    named = f"{source}: {result['source']}" if result["source"] else source
    return "\n".join([*lines, "Out of reach; check these yourself:", *(f"  - {each}" for each in [named, *others])])


@command(app, example="localsynth erase visits", show=_erase_text)
def erase(
    workspace: Workspace,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    keep_report: Annotated[bool, typer.Option("--keep-report", help="Keep the reports, which quote the original.")] = False,
) -> Result:
    """Destroy the key of the original rows and remove everything private. Cannot be undone."""
    from localsynth.pipeline.erase import erase as erase_workspace
    from localsynth.workspace.paths import Workspace as Directory

    directory = Directory.open(workspace)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("erase asks for confirmation, and there is no terminal.", "Add --yes to confirm beforehand.")
        print(
            f"This destroys the original rows in {workspace} for good. Model, certificate and synthetic rows stay.",
            file=sys.stderr,
        )
        if not typer.confirm("Erase?", err=True):
            raise Cancelled("Nothing was erased.")
    done = erase_workspace(directory, keep_report)
    return {"removed": done.removed, "left": done.unknown, "source": done.source, "record": done.record}


def _passphrase_text(result: Result) -> str:
    return f"Passphrase of {result['workspace']}: {result['passphrase']}."


@command(app, example="localsynth passphrase visits", show=_passphrase_text)
def passphrase(
    workspace: Workspace,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the passphrase.")] = False,
    passphrase_fd: PassphraseFd = None,
    new_passphrase_fd: Annotated[
        int | None,
        typer.Option("--new-passphrase-fd", metavar="N", min=0, help="Read the new passphrase from this file descriptor."),
    ] = None,
) -> Result:
    """Set, change or remove the passphrase that protects the key of the original rows."""
    from localsynth.cli.prompt import ask_passphrase
    from localsynth.store.key import change_passphrase, is_wrapped, key_path
    from localsynth.system.lock import work_lock
    from localsynth.workspace.erasure_record import refuse_erased
    from localsynth.workspace.paths import Workspace as Directory

    directory = Directory.open(workspace)
    refuse_erased(directory)
    present = None
    if key_path(directory).exists() and is_wrapped(directory):
        present = ask_passphrase(str(workspace), passphrase_fd)
    new = None if remove else ask_passphrase(str(workspace), new_passphrase_fd, new=True)
    with work_lock(directory.root, "passphrase"):
        change_passphrase(Directory.open(workspace, present), new)
    return {"workspace": str(workspace), "passphrase": "none" if remove else "set"}
