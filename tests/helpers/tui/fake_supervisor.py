"""A fake supervisor that plays a script of events: `python fake_supervisor.py SCRIPT DIRECTORY`.

The script has one JSON object a line: events, {"wait_for": path} and, last, a result or a failure.
"""

import json
import sys
import time
from pathlib import Path

from localsynth.worker import WorkerError
from localsynth_tui.jobs.supervisor import STOP, supervise


def main() -> None:
    script, directory = Path(sys.argv[1]), Path(sys.argv[2])

    def run(_verb, _request, emit):
        for line in script.read_text().splitlines():
            event = json.loads(line)
            if "wait_for" in event:
                while not Path(event["wait_for"]).exists():
                    if (directory / STOP).exists():
                        raise WorkerError("Stopped before step 3.", "Start the command again to resume.", 130)
                    time.sleep(0.02)
            elif event["kind"] == "result":
                return event["result"]
            elif event["kind"] == "failed":
                raise WorkerError(event["message"], event["hint"], event["code"])
            else:
                emit(event)
        raise AssertionError("the script has no result")

    supervise(directory, json.load(sys.stdin), run)


main()
