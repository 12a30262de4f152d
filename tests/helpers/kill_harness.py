"""Kills stages at random moments and starts them again.

    python -m tests.helpers.kill_harness DIRECTORY MODEL KILLS SEED KIND STAGE...

Each kill works on a copy of a workspace of that kind on which the stage can begin (with its keys), looks at what the killed stage
left, then runs the stage again, to its end. A stage that ended before it could be killed does not count. Writes one JSON
object a kill; a wrong state is in `wrong`.
"""

import json
import random
import shutil
import signal
import sys
from pathlib import Path

from tests.helpers.forked import Ended, Place, bases, faults_of, run, unfinished

MISSES = 100
"""A stage may so often have ended before it could be killed; then the rest is not repeated."""
LOST = "while its marginals were measured. They are charged"
DONE = ("is trained already", "is finished")


def killed_once(
    before: Place, root: Path, stage: str, seconds: float, r: random.Random, missed: int
) -> tuple[Place, Ended, int, float]:
    """A copy on which the stage was killed, how it ended, how often it was done before its turn, and its seconds at most."""
    while True:
        place = before.copy(root)
        ended = run(stage, place, kill_after=r.uniform(0, seconds))
        if ended.code == -signal.SIGKILL or missed == MISSES:
            return place, ended, missed, seconds
        # The first time is the longest, since everything is read from the disk then.
        seconds, missed = min(seconds, ended.seconds), missed + 1
        place.remove()


def gone_on(place: Place, stage: str) -> list[str]:
    """Start the stage again, in the way that it asks for; what was wrong then."""
    again = run(stage, place)
    if again.code == 4 and stage == "train" and LOST in again.message:
        # What it says: delete the run's directory and add --again, which is charged on top.
        (lost,) = place.workspace.runs_path.iterdir()
        shutil.rmtree(lost)
        again = run(stage, place, again=True)
    if again.code != 0 and not (again.code == 2 and any(sign in again.message for sign in DONE)):
        return [f"started again: {again}"]
    return faults_of(place) + unfinished(place, stage)


def main() -> None:
    root, model, kills, seed, kind = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    r, wanted = random.Random(seed), tuple(sys.argv[6:])
    for stage, before, seconds in bases(root, kind, model, wanted):
        missed = 0
        for number in range(kills):
            place, ended, missed, seconds = killed_once(before, root / f"{stage}-{number}", stage, seconds, r, missed)
            wrong = [f"after the kill: {each}" for each in faults_of(place)]
            wrong += [f"at the end: {each}" for each in gone_on(place, stage)]
            if stage == "train" and not wrong:
                wrong += [f"export: {each}" for each in gone_on(place, "export")]
            outcome = {
                "stage": stage,
                "after": ended.seconds,
                "of": seconds,
                "killed": ended.code == -signal.SIGKILL,
                "wrong": wrong,
            }
            sys.stdout.write(json.dumps(outcome) + "\n")
            sys.stdout.flush()
            place.remove()


main()
