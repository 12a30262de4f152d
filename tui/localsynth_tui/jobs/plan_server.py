"""A process that answers many `plan` requests, so that libraries are loaded once.

It reads one request a line and answers each with one line, as the worker would. It reads no
rows and spends nothing.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from localsynth.errors import ExitCode, LocalsynthError

__all__ = ["answer"]


def answer(request: dict[str, Any], seal: str) -> dict[str, Any]:
    """The last event for this request: `result` or `failed`."""
    from localsynth.config import load_config
    from localsynth.pipeline.run import VERBS
    from localsynth.pipeline.session import Options, Session
    from localsynth.workspace.paths import Workspace

    try:
        workspace = Workspace.open(Path(request["workspace"]))
        config = load_config(workspace.config_path, request["overrides"])
        session = Session(workspace, config, lambda _event: None, lambda: False, Options(**request["options"]), seal)
        return {"kind": "result", "result": VERBS["plan"](session)}
    except LocalsynthError as error:
        return {"kind": "failed", "code": int(error.exit_code), "message": error.message, "hint": error.hint}
    except Exception as error:
        hint = "For details run: localsynth plan WS"
        return {"kind": "failed", "code": int(ExitCode.BUG), "message": f"Planning failed: {type(error).__name__}.", "hint": hint}


def main() -> int:
    """`python -m localsynth_tui.jobs.plan_server`, until stdin ends."""
    from localsynth.system.network_seal import seal

    level = seal().level
    # Libraries may write to stdout, which belongs to the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), level)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
