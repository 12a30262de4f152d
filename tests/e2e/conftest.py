"""A small table, and the `localsynth` command run as a user would, in a home of its own."""

import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fork_server import ForkServer


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Command:
    """Runs `localsynth` in a directory with the tiny model as base model."""

    directory: Path
    environment: dict[str, str]
    model: Path
    server: ForkServer

    def __call__(self, *arguments: object) -> Outcome:
        """In a fork of a process that has imported everything; `started` is the slow way."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), out.fileno(), err.fileno())
            code = self.server.run(self.directory, self.environment, list(map(str, arguments)), streams)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return self._checked(Outcome(code, *texts))

    def started(self, *arguments: object) -> Outcome:
        """In a new process, as from a shell."""
        line = [sys.executable, "-m", "localsynth.cli.main", *map(str, arguments)]
        done = subprocess.run(line, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=1800)
        return self._checked(Outcome(done.returncode, done.stdout, done.stderr))

    def _checked(self, outcome: Outcome) -> Outcome:
        assert "Traceback" not in outcome.err + outcome.out, outcome.err
        return outcome

    def ok(self, *arguments: object) -> Outcome:
        outcome = self(*arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    def init(self, name: str, data: Path | str) -> None:
        """`init` with short texts: generating long ones would take most of a run's time."""
        self.ok("init", name, "--data", data)
        self.shorten_texts(name)

    def shorten_texts(self, name: str, tokens: int = 16) -> None:
        """Cut texts after so many tokens, in the configuration that `init` wrote."""
        path = self.directory / name / "localsynth.toml"
        path.write_text(re.sub("^# max_tokens = .*", f"max_tokens = {tokens}", path.read_text(), flags=re.MULTILINE))

    def quick(self, *, count_texts: bool = False) -> list[str]:
        """Overrides that make a run on the tiny model take seconds; counting tokens takes as long as all the rest."""
        keys = [
            f"train.model={self.model}",
            "train.precision=fp32",
            "train.epochs=1",
            "train.batch_size=60",
            "sample.batch_size=8",
            "evaluate.report=false",
            *([] if count_texts else ["text_counts.share=0"]),
        ]
        return [part for key in keys for part in ("--set", key)]


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def command_in(tiny_model: Any, fork_server: ForkServer) -> Callable[[Path], Command]:
    """The command in a directory of the caller's, which is its home too."""

    def make(directory: Path) -> Command:
        homes = {"LOCALSYNTH_HOME": str(directory / "home"), "LOCALSYNTH_MODELS": str(directory / "models")}
        return Command(directory, {**os.environ, **homes}, tiny_model(), fork_server)

    return make


@pytest.fixture
def localsynth(tmp_path: Path, command_in: Callable[[Path], Command]) -> Command:
    return command_in(tmp_path)


HEADER = ["id", "name", "kind", "amount", "price", "day", "ok", "note"]


def table(rows: int, seed: int = 0) -> list[list[str]]:
    """Tickets with a column of nearly every kind; each note carries a unique planted word."""
    r = random.Random(seed)
    kinds = ["refund", "delivery", "question"]
    return [
        [
            str(1000 + i),
            f"Person{i} Planted{i:05d}",
            r.choice(kinds),
            str(r.randint(1, 90)),
            f"{r.random() * 50:.2f}",
            f"2024-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}",
            r.choice(["yes", "no"]),
            "" if i % 17 == 0 else f"please help planted{i:05d}zq with my {r.choice(kinds)}",
        ]
        for i in range(rows)
    ]


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(HEADER)
        writer.writerows(table(400))
    return path
