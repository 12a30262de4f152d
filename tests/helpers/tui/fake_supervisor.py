"""Stands in for the keeper: plays a script of events in the place of the engine. `python fake_supervisor.py SCRIPT DIRECTORY`.

The script has a JSON object a line: events, {"wait_for": path} and, last, a result or a failure.
"""

import json
import sys
import time
from pathlib import Path

from localsynth.worker import WorkerError
from localsynth_tui.jobs.supervisor import STOP, keep


def main() -> None:
    script, directory = Path(sys.argv[1]), Path(sys.argv[2])

    def run(_verb, _request, emit):
        for line in script.read_text().splitlines():
            event = json.loads(line)
            if "wait_for" in event:
                while not Path(event["wait_for"]).exists():
                    if (directory / STOP).exists():
                        raise WorkerError("Stopped before step 3.", "Start the command again to go on.", 130)
                    time.sleep(0.02)
            elif event["kind"] == "result":
                return event["result"]
            elif event["kind"] == "failed":
                raise WorkerError(event["message"], event["hint"], event["code"])
            else:
                emit(event)
        raise AssertionError("the script has no end")

    keep(directory, json.load(sys.stdin), run)


main()
