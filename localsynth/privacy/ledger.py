"""The ledger of a workspace: every privacy spend, recorded before it happens and never changed.

`ledger.json` is rewritten at each event, one event a line. The chain's head (count and hash)
is also stored beside the workspace's key, so that replacing the ledger by an older or shorter
one is noticed.
"""

import dataclasses
import datetime as dt
import json
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from localsynth.errors import BudgetError, IntegrityError, ResourceError
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import TOLERANCE, Mechanism, flatten, unflatten
from localsynth.privacy.ledger_chain import FORMAT, Basis, Budget, Event, Spent, break_in_chain, genesis_hash, recompute
from localsynth.system.canonical_json import canonical_json, sha256_of
from localsynth.system.files import read_json, write_file, write_json
from localsynth.system.lock import file_lock

_WAIT_SECONDS = 60.0
_START_OVER = "Restore it from a backup of the same moment, or start over in a new workspace."


def exclusive(path: Path) -> AbstractContextManager[None]:
    """Exclude other processes from `path` with a lock file beside it. Raises ResourceError."""
    return file_lock(path.with_name(path.name + ".lock"), str(path), wait_seconds=_WAIT_SECONDS)


class Ledger:
    """The open ledger of one workspace. Make one with `Ledger.open`."""

    def __init__(self, path: Path, head_path: Path, workspace_id: str, events: list[Event], head: dict[str, Any] | None) -> None:
        self._path = path
        self._head_path = head_path
        self._workspace_id = workspace_id
        self._events: list[Event] = []
        self._lines: list[str] = []
        self._budgets: dict[str, Budget] = {}
        self._charged: dict[str, Counter[str]] = {}
        # Counts of mechanisms known to fit into a budget: any subset fits, too, without computing it.
        self._known_to_fit: dict[str, Counter[str]] = {}
        self._head_on_disk = head
        for event in events:
            self._add(event)

    @staticmethod
    def open(path: Path, head_path: Path, workspace_id: str) -> "Ledger":
        """The ledger in `path`, new if there is none yet, checked against its head in `head_path`.

        A ledger exactly one event ahead of its head is the result of a crash between the two writes; the head is then updated.
        Raises IntegrityError saying whether the file was edited, is missing, was cut or rolled back, or its head is missing.
        """
        with exclusive(head_path):
            head = _read_head(head_path)
            if not path.exists():
                if head is not None and head["count"] > 0:
                    raise IntegrityError(f"{path} is missing, though {head['count']} events were written to it.", _START_OVER)
                return Ledger(path, head_path, workspace_id, [], head)
            document = read_json(path)
            broken = break_in_chain(document)
            if broken:
                raise IntegrityError(f"{path} was edited: {broken}.", _START_OVER)
            if document["workspace"] != workspace_id:
                raise IntegrityError(f"{path} was edited: it is another workspace's ledger.", _START_OVER)
            if head is None:
                raise IntegrityError(
                    f"The head of the ledger, {head_path}, is missing, so {path} cannot be checked.",
                    "Use the machine and account that made the workspace, or restore its configuration directory.",
                )
            events = document["events"]
            if len(events) < head["count"]:
                raise IntegrityError(
                    f"{path} was cut or rolled back: it has {len(events)} events, and {head['count']} were written.", _START_OVER
                )
            hashes = [genesis_hash(workspace_id), *(event["hash"] for event in events)]
            if hashes[head["count"]] != head["hash"] or len(events) > head["count"] + 1:
                raise IntegrityError(f"{path} was replaced: its events are not the ones that were written.", _START_OVER)
            ledger = Ledger(path, head_path, workspace_id, events, head)
            if len(events) == head["count"] + 1:
                ledger._write_head()
            return ledger

    def _add(self, event: Event) -> None:
        name = event["budget"]
        if event["kind"] == "budget":
            account = Account(event["epsilon"], event["delta"], event["order"], event["failure"])
            self._budgets[name] = Budget(name, account)
            self._charged[name] = Counter()
        else:
            self._charged[name].update(flatten([event["mechanism"]]))
        self._events.append(event)
        self._lines.append(canonical_json(event).decode("ascii"))

    def _head(self) -> dict[str, Any]:
        last = self._events[-1]["hash"] if self._events else genesis_hash(self._workspace_id)
        return {"count": len(self._events), "hash": last}

    def _write_head(self) -> None:
        write_json(self._head_path, self._head())
        self._head_on_disk = self._head()

    def _append(self, run: str | None, kind: str, stage: str, what: str, budget: str, body: dict[str, Any]) -> Event:
        with exclusive(self._head_path):
            if _read_head(self._head_path) != self._head_on_disk:
                raise ResourceError(
                    f"Another process has written to {self._path} meanwhile.", "Wait until it has ended, then start again."
                )
            if self._head_on_disk != self._head():
                # The first event, or the last write of the head failed: never be two events ahead of it.
                self._write_head()
            event = {
                "index": len(self._events),
                # To the day only: finer times would reveal how long each step took, which depends on the private rows,
                # and the ledger is published with the certificate.
                "time": dt.datetime.now(dt.UTC).date().isoformat(),
                "run": run,
                "kind": kind,
                "stage": stage,
                "what": what,
                "budget": budget,
                **body,
                "previous": self._head()["hash"],
            }
            event["hash"] = sha256_of(event)
            header = f'{{"format":{FORMAT},"workspace":{json.dumps(self._workspace_id)},"events":[\n'
            lines = [*self._lines, canonical_json(event).decode("ascii")]
            write_file(self._path, header + ",\n".join(lines) + "\n]}\n")
            self._add(event)
            self._write_head()
        return event

    def document(self) -> dict[str, Any]:
        """The whole ledger as JSON, for a certificate."""
        return {"format": FORMAT, "workspace": self._workspace_id, "events": list(self._events)}

    def budgets(self) -> list[Event]:
        """The events that opened budgets, in order."""
        return [event for event in self._events if event["kind"] == "budget"]

    def budget(self, name: str) -> Budget | None:
        """The budget of that name, if it was opened."""
        return self._budgets.get(name)

    def open_budget(
        self,
        name: str,
        run: str | None,
        account: Account,
        *,
        limit: float,
        limit_delta: float,
        basis: Basis,
        beyond_limit: bool = False,
    ) -> Budget:
        """Fix what may be spent under that name, before the data is read. Opening it again with the same account has no effect.

        The budgets of a workspace must agree on `basis`, since their costs are added. `run` is the run it belongs to, if any.
        Raises BudgetError where they do not; where all budgets together would exceed `limit` (ε) or `limit_delta`, or those of
        the first budget, unless `beyond_limit` (another run, charged on top); and where it is open with another account.
        """
        self._check_basis(basis)
        found = self.budget(name)
        if found is not None:
            if found.account != account:
                raise BudgetError(
                    f"The budget {name!r} was fixed at epsilon {found.account.epsilon:g}, delta {found.account.delta:g}; "
                    "it cannot be changed.",
                    "Put back the privacy settings it was started with, or start another run with --again.",
                )
            return found
        epsilon, delta = account.epsilon, account.delta
        if not (epsilon > 0 and 0 <= delta < 1):
            raise BudgetError(
                f"The budget {name!r} has epsilon {epsilon:g} and delta {delta:g}: nothing to spend.",
                "Raise privacy.epsilon, or give less of it to other stages.",
            )
        total = epsilon + sum(budget.account.epsilon for budget in self._budgets.values())
        total_delta = delta + sum(budget.account.delta for budget in self._budgets.values())
        # The limit fixed before anything was spent; raising it later has no effect.
        max_epsilon = min([limit, *(event["limit"] for event in self.budgets()[:1])])
        max_delta = min([limit_delta, *(event["limit_delta"] for event in self.budgets()[:1])])
        if not beyond_limit and (total > max_epsilon * (1 + TOLERANCE) or total_delta > max_delta * (1 + TOLERANCE)):
            raise BudgetError(
                f"The budget {name!r} does not fit: all budgets would come to epsilon {total:.4g} and delta {total_delta:.3g}, "
                f"and the limit is epsilon {max_epsilon:.4g}, delta {max_delta:.3g}, the lower of the present and the first one.",
                "To spend more on the same data, add --again; the certificate will state it.",
            )
        limits = {"limit": limit, "limit_delta": limit_delta, "beyond_limit": beyond_limit}
        body = {**dataclasses.asdict(account), **limits, "basis": dataclasses.asdict(basis)}
        self._append(run, "budget", name, "budget opened before anything is measured", name, body)
        return self._budgets[name]

    def _check_basis(self, basis: Basis) -> None:
        """Raise BudgetError unless all budgets protect the same unit. Whether the size was declared may differ."""
        for event in self._events:
            if event["kind"] != "budget":
                continue
            unit, rows = event["basis"]["unit"], event["basis"]["max_rows_per_unit"]
            if (unit, rows) != (basis.unit, basis.max_rows_per_unit):
                raise BudgetError(
                    f"This workspace's budgets protect unit {unit!r} with at most {rows} rows. A budget for unit {basis.unit!r} "
                    f"with at most {basis.max_rows_per_unit} rows cannot be added.",
                    "Put back privacy.unit and max_rows_per_unit, or make a new workspace.",
                )

    def _opened(self, name: str) -> Budget:
        found = self.budget(name)
        if found is None:
            raise BudgetError(f"No budget {name!r} was opened.", "Open the budget before the data is read.")
        return found

    def _fits(self, budget: Budget, counts: Counter[str]) -> bool:
        if counts <= self._known_to_fit.get(budget.name, Counter()):
            return True
        if not budget.account.fits(unflatten(counts)):
            return False
        self._known_to_fit[budget.name] = counts
        return True

    def charged(self, budget: str) -> list[Mechanism]:
        """What was charged to a budget. Raises BudgetError where it is not open."""
        self._opened(budget)
        return unflatten(self._charged[budget])

    def fits(self, budget: str, mechanisms: list[Mechanism]) -> bool:
        """Whether all of `mechanisms` still fit into the budget; `charge` then takes each without composing again.

        Raises BudgetError, ConfigError.
        """
        return self._fits(self._opened(budget), self._charged[budget] + flatten(mechanisms))

    def charge(
        self,
        *,
        budget: str,
        run: str | None,
        stage: str,
        what: str,
        mechanism: Mechanism,
        details: dict[str, Any] | None = None,
    ) -> Event:
        """Record that `mechanism` is about to run on the data. It cannot be undone. `details` must be public.

        Raises BudgetError, before anything is written, where the budget's spends with this one exceed its ε at its δ.
        """
        opened = self._opened(budget)
        if not self.fits(budget, [mechanism]):
            raise BudgetError(
                f"The privacy budget {budget!r} (epsilon {opened.account.epsilon:g}, delta {opened.account.delta:g}) is used up: "
                f"{what!r} was not done.",
                "Completed work is kept. Start another run with --again to spend more.",
            )
        return self._append(run, "spend", stage, what, budget, {"mechanism": mechanism, "details": details or {}})

    def spent(self) -> Spent:
        """The (ε, δ) spent by all runs, finished or not."""
        return recompute(self._events)

    def spends(self, run: str | None = None) -> list[Event]:
        """The spends of one run, or of all of them."""
        return [event for event in self._events if event["kind"] == "spend" and run in (None, event["run"])]


def _read_head(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        head = read_json(path)
    except IntegrityError:
        head = None
    if not isinstance(head, dict) or set(head) != {"count", "hash"} or type(head["count"]) is not int or head["count"] < 0:
        raise IntegrityError(
            f"The head of the ledger, {path}, is damaged, so the ledger of its workspace cannot be checked.",
            "Restore it from a backup of your configuration directory, of the same moment as the workspace, or start over in a "
            "new workspace.",
        )
    return head
