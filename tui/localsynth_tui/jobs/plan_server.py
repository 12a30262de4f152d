"""A process that answers many `plan` requests, so that libraries are loaded once.

It reads one request a line and answers each with one line, as the worker would. It reads no
rows and spends nothing.
"""

import json
import sys
from typing import Any

from localsynth.events import Event
from localsynth.system.network_seal import seal
from localsynth.worker import claim_stdout, failure_event, serve


def answer(request: dict[str, Any], seal_level: str) -> Event:
    """The last event for this request: `result` or `failed`."""
    try:
        return {"kind": "result", "result": serve({**request, "verb": "plan"}, lambda _event: None, lambda: False, seal_level)}
    except Exception as error:
        return failure_event(error)


def main() -> int:
    """`python -m localsynth_tui.jobs.plan_server`, until stdin ends."""
    level = seal().level
    answers = claim_stdout()
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), level)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
