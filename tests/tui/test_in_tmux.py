"""From a CSV to synthetic rows and a valid certificate in a real terminal, by key presses."""

import csv
import os
import random
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from localsynth.store.synthetic import SyntheticStore

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]


class Terminal:
    """A command in a terminal of its own tmux server."""

    def __init__(self, command, directory, size=(80, 24)):
        self._socket = f"localsynth-{os.getpid()}-{random.randrange(10**6)}"
        self._run("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "-c", str(directory), command)

    def _run(self, *arguments):
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def screen(self):
        return self._run("capture-pane", "-p")

    def keys(self, *names):
        for name in names:
            self._run("send-keys", name)
            time.sleep(0.3)

    def type(self, text):
        self._run("send-keys", "-l", text)
        time.sleep(0.3)

    def wait_for(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while text not in (screen := self.screen()):
            assert "A bug" not in screen and "Traceback" not in screen, screen
            assert time.monotonic() < deadline, f"{text!r} did not appear:\n{screen}"
            time.sleep(0.3)

    def close(self):
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def tickets(home, tiny_model):
    shutil.copy(tiny_model(), home / "tiny.gguf")
    r = random.Random(1)
    with (home / "tickets.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "kind", "amount", "note"])
        for number in range(400):
            kind = r.choice(["refund", "delivery", "question"])
            writer.writerow([number, kind, r.randint(1, 90), f"please help planted{number:05d}zq with my {kind}"])
    return home


def test_csv_to_synthetic_rows_by_keys(tickets):
    terminal = Terminal(f"{shlex.quote(sys.executable)} -m localsynth.start; echo exit $?; sleep 600", tickets)
    try:
        terminal.wait_for("This machine:", 30)
        terminal.keys("7")
        terminal.wait_for("smollm2")
        terminal.keys("a")
        terminal.wait_for("Add a model of your own")
        terminal.type("tiny.gguf")
        terminal.keys("Enter", "Enter")
        terminal.wait_for("Added")
        terminal.keys("1", "n")
        terminal.wait_for("New workspace")
        terminal.type("tickets.csv")
        terminal.keys("Enter", "Enter")
        terminal.wait_for("not learned: new numbers", 90)
        terminal.keys("k")
        terminal.wait_for("[✓] I have checked")
        terminal.keys("3")
        terminal.wait_for("models fetch", 120)  # the default model is missing: the plan says what to do
        terminal.keys("Tab", "Tab", "Tab", "Tab", "Tab")
        terminal.type("70")
        terminal.keys("Tab", "Tab", "Tab", "Enter")
        terminal.wait_for("tiny")  # the list of models is open
        terminal.keys("Down", "Enter")
        terminal.wait_for("Noise", 120)
        terminal.keys("Escape")
        time.sleep(1)
        terminal.keys("s")
        terminal.wait_for("Start the real run?")
        assert not (tickets / "tickets" / "ledger.json").exists(), "nothing is spent before it is confirmed"
        terminal.keys("Right", "Enter")
        terminal.wait_for("train: started", 180)
        # Quit and come back: the run continues meanwhile.
        terminal.keys("d")
        terminal.wait_for("Quit, keep it running")
        terminal.keys("Enter")
        terminal.wait_for("exit 0")
    finally:
        terminal.close()
    terminal = Terminal(f"{shlex.quote(sys.executable)} -m localsynth.cli.main tui tickets", tickets, (120, 40))
    try:
        terminal.wait_for("generate rows", 60)
        terminal.wait_for("run: finished", 300)
        terminal.keys("5")
        terminal.wait_for("of 70. All rows are synthetic.", 30)
        terminal.keys("6")
        terminal.wait_for("✓ Valid.", 120)
        # More rows, under a condition; then the report on the others.
        terminal.keys("5", "m")
        terminal.wait_for("Columns: kind, amount, note", 30)
        terminal.type("9")
        terminal.keys("Enter")
        terminal.type("amont > 80")
        terminal.wait_for("Did you mean 'amount'?")
        terminal.keys("C-u")
        terminal.type("amount > 80")
        terminal.wait_for("Every new row has amount 81")
        terminal.keys("Enter", "Enter", "Enter")
        terminal.wait_for("sample: finished", 120)
        terminal.keys("6")
        terminal.wait_for("✓ Valid.", 120)
        terminal.keys("e")
        terminal.wait_for("localsynth evaluate tickets")
        terminal.keys("Tab", "Enter")
        terminal.wait_for("evaluate: finished", 400)
        terminal.keys("6")
        terminal.wait_for("✓ Valid.", 120)
        terminal.keys("r", "End")
        terminal.wait_for("report.html", 30)
        terminal.keys("5", "h")
        terminal.wait_for("Original and synthetic, from the report. PRIVATE", 30)
        terminal.wait_for("length in characters", 10)
        # Audit the guarantee, then erase the private side.
        terminal.keys("6")
        terminal.wait_for("✓ Valid.", 120)
        terminal.keys("a")
        terminal.wait_for("Random rows (canaries)")
        terminal.type("100")
        terminal.wait_for("--search 100 --canaries 100")
        terminal.keys("Enter", "Enter")
        terminal.wait_for("audit: finished", 400)
        terminal.keys("6", "u")
        terminal.wait_for("Correct guesses of which of 100 random rows", 120)
        terminal.keys("c")
        terminal.wait_for("✓ Valid.", 120)
        terminal.keys("x")
        terminal.wait_for("type the workspace's name: tickets")
        terminal.type("tickets")
        terminal.keys("Enter")
        terminal.wait_for("Erased on", 60)
    finally:
        terminal.close()
    assert (tickets / "tickets" / "erasure.json").exists() and not (tickets / "tickets" / "private.duckdb").exists()
    store = SyntheticStore(tickets / "tickets" / "synthetic.duckdb")
    assert store.query("select count(*), min(amount) >= 0 from synthetic")[1] == [(79, True)]
    assert store.query("select count(*) from (select * from synthetic offset 70) where amount > 80")[1] == [(9,)]
