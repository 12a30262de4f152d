"""The bundled example: a synthetic table of visits to an emergency department, its configuration, and the demo's workspace.

No visit in it ever happened. Columns depend on each other the way they do in such tables (age and triage decide who is
admitted, the complaint decides temperature and note, the hour of the day has its pattern), and a few notes hold planted
names, telephone numbers (555-01xx, reserved for fiction) and e-mail addresses (example.org, RFC 2606), so that
there is something a leak would show.
"""

import csv
import datetime as dt
import io
import json
import math
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localsynth.errors import ConfigError, ResourceError
from localsynth.system.files import write_file
from localsynth.workspace.paths import Workspace

_YEAR = 2025
_LAST_DAY = dt.date(_YEAR, 12, 31)
_HOURS = [30, 24, 20, 17, 15, 18, 26, 38, 55, 70, 78, 80, 76, 74, 72, 70, 70, 72, 74, 72, 66, 58, 48, 38]
"""Arrivals by hour of the day: few before dawn, most from late morning to evening."""
_WORDS = 14
"""Maximum words of a note: each one costs training time, and the example is trained on a laptop's CPU."""
_PLANTED = 0.05
"""Probability that a note holds personal data: a name, a telephone number or an e-mail address."""


@dataclass(frozen=True)
class _Complaint:
    """What people come with: how often, how urgent, how it shows, and how a nurse writes it down. From complaints.toml."""

    share: list[float]
    """Weight among children (under 16), adults, and people from 65."""
    urgency: list[int]
    """Weights of the triage levels 1 (at once) to 5 (can wait)."""
    stories: list[str]
    """Read after "with"; of at most four words, like the findings, so that one of each fits in a note."""
    findings: list[str]
    """Of a visit that can wait."""
    alarms: list[str]
    """Findings of an urgent visit (triage 1 and 2)."""
    fever: float = 0.03
    winter: float = 1.0
    """How much more frequent in the cold months."""
    youngest: int = 0
    """The age from which somebody can have, or tell of, this."""
    causes: Sequence[str] = ()
    """Where an injury happened; without any, the note says since when."""


def _beside(name: str) -> str:
    """A text file of this package."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


_COMPLAINTS = {name: _Complaint(**fields) for name, fields in tomllib.loads(_beside("complaints.toml")).items()}
_ONSETS = ("since this morning", "overnight", "since yesterday", "for two days", "for three days", "all day")
_SUDDEN = ("for an hour", "for half an hour", "since this morning")
_PLANS = {
    1: ("Straight to resus", "Resus team called", "Doctor at the bedside"),
    2: ("Monitored bay", "Line placed, bloods sent", "Doctor informed"),
    3: ("Bloods sent", "Pain relief given", "Reassess soon"),
    4: ("Waiting room", "Painkiller offered", "Waits for the doctor"),
    5: ("Can wait", "Fast track", "Advice given"),
}
_HOW = {
    "walk-in": "with",
    "ambulance": "by ambulance with",
    "referral": "referred with",
    "transfer": "transferred with",
    "police": "by police with",
}
"""How a note tells the way somebody arrived."""
_RELATIVES = (
    {"mother": "first_name_female", "father": "first_name_male", "grandmother": "first_name_female"},
    {"partner": "first_name", "brother": "first_name_male", "sister": "first_name_female"},
    {"daughter": "first_name_female", "son": "first_name_male", "neighbour": "first_name"},
)
"""Who comes along with a child, an adult, an old person, and Faker's provider of their first names."""


@dataclass(frozen=True)
class _Patient:
    name: str
    age: int
    sex: str

    @property
    def group(self) -> int:
        """0 child, 1 adult, 2 old; the index into everything that differs by age."""
        return 0 if self.age < 16 else 1 if self.age < 65 else 2

    @property
    def noun(self) -> str:
        if self.age < 16:
            return {"F": "girl", "M": "boy", "X": "child"}[self.sex]
        return {"F": "woman", "M": "man", "X": "person"}[self.sex]


class _Department:
    """Generates visits. Everything follows from one seed."""

    def __init__(self, seed: int) -> None:
        from faker import Faker

        self._rng = random.Random(seed)
        self._faker = Faker("en_US")
        self._faker.seed_instance(seed)

    def visit(self, arrival: dt.datetime) -> dict[str, str]:
        """One visit, as its texts in the table; "" is a missing value."""
        rng = self._rng
        patient = self._patient()
        cold = arrival.month in (11, 12, 1, 2, 3)
        possible = {key: c for key, c in _COMPLAINTS.items() if patient.age >= c.youngest}
        name = self._pick({key: c.share[patient.group] * (c.winter if cold else 1) for key, c in possible.items()})
        complaint = _COMPLAINTS[name]
        triage = rng.choices((1, 2, 3, 4, 5), complaint.urgency)[0]
        temperature = self._temperature(complaint, triage)
        admitted = self._admitted(patient, triage, temperature)
        return {
            "patient": patient.name,
            "arrival": str(arrival),
            "age": str(patient.age),
            "sex": patient.sex,
            "triage": str(triage),
            "temp": "" if temperature is None else f"{temperature:.1f}",
            "complaint": name,
            "admitted": "yes" if admitted else "no",
            "discharge": self._discharge(arrival, patient, admitted),
            "note": self._note(patient, complaint, triage, temperature),
        }

    def _pick(self, weights: dict[str, float]) -> str:
        return self._rng.choices(list(weights), list(weights.values()))[0]

    def _patient(self) -> _Patient:
        rng, faker = self._rng, self._faker
        centre, spread = rng.choices(((3, 4), (30, 13), (52, 14), (79, 9)), (20, 34, 22, 24))[0]
        age = min(104, max(0, abs(round(rng.gauss(centre, spread)))))
        sex = self._pick({"F": 50.5, "M": 48.5, "X": 1})
        first = {"F": faker.first_name_female, "M": faker.first_name_male, "X": faker.first_name_nonbinary}[sex]()
        return _Patient(f"{first} {faker.last_name()}", age, sex)

    def _mode(self, patient: _Patient, triage: int) -> str:
        ambulance = {1: 80, 2: 45, 3: 22, 4: 7, 5: 2}[triage] * (0.6, 0.9, 1.6)[patient.group]
        transfer = 4 if triage < 4 else 1
        return self._pick({"walk-in": 62, "ambulance": ambulance, "referral": 13, "transfer": transfer, "police": 1.5})

    def _temperature(self, complaint: _Complaint, triage: int) -> float | None:
        rng = self._rng
        # Nobody takes the temperature of a cut finger; everybody that of a child with fever.
        if rng.random() < (0.25 if complaint.causes else 0.04):
            return None
        if rng.random() < complaint.fever:
            return round(min(41.5, max(38.0, rng.gauss(39.2 if triage <= 2 else 38.7, 0.5))), 1)
        return round(min(37.7, max(35.2, rng.gauss(36.7, 0.35))), 1)

    def _admitted(self, patient: _Patient, triage: int, temperature: float | None) -> bool:
        odds = {1: 2.2, 2: 0.6, 3: -1.1, 4: -2.9, 5: -4.5}[triage] + 0.028 * (patient.age - 45)
        odds += 0.6 if temperature is not None and temperature >= 39 else 0
        return self._rng.random() < 1 / (1 + math.exp(-odds))

    def _discharge(self, arrival: dt.datetime, patient: _Patient, admitted: bool) -> str:
        rng = self._rng
        if not admitted:
            leaves = (arrival + dt.timedelta(hours=rng.uniform(1, 7))).date()
        else:
            leaves = arrival.date() + dt.timedelta(days=1 + round(rng.expovariate(1 / (2 + patient.age / 18))))
            # Some of the oldest wait in the ward for a place in a nursing home.
            if patient.age >= 80 and rng.random() < 0.06:
                return ""
        return str(leaves) if leaves <= _LAST_DAY else ""

    def _note(self, patient: _Patient, complaint: _Complaint, triage: int, temperature: float | None) -> str:
        rng = self._rng
        urgent = triage <= 2
        who, how = self._who(patient), _HOW[self._mode(patient, triage)]
        story = rng.choice(complaint.stories)
        when = rng.choice(complaint.causes or (_SUDDEN if urgent else _ONSETS))
        finding = rng.choice(complaint.alarms if urgent else complaint.findings)
        if complaint.fever > 0 and temperature is not None and temperature >= 38 and rng.random() < 0.5:
            finding = f"Temp {temperature:.1f}"
        if rng.random() < _PLANTED:
            return f"{who} with {story}. {self._personal_data(patient)}."
        # A nurse in a hurry writes no finding where nothing alarms, and seldom all there is to say.
        notes = {
            f"{who} {how} {story} {when}.": 0 if urgent else 45,
            f"{who} {how} {story}. {finding}.": 45,
            f"{who} {how} {story} {when}. {finding}.": 6,
            f"{who} {how} {story}. {rng.choice(_PLANS[triage])}.": 14,
        }
        return self._pick({note: weight for note, weight in notes.items() if len(note.split()) <= _WORDS})

    def _who(self, patient: _Patient) -> str:
        noun, age = patient.noun, patient.age
        return f"Baby {noun}" if age == 0 else self._rng.choice((f"{age} yo {noun}", f"{noun.capitalize()}, {age},"))

    def _personal_data(self, patient: _Patient) -> str:
        rng, faker = self._rng, self._faker
        relative, first_name = rng.choice(list(_RELATIVES[patient.group].items()))
        first, last = getattr(faker, first_name)(), faker.last_name()
        return rng.choice(
            (
                f"{relative.capitalize()} {first} {last} is here",
                f"Call {relative} on 555-01{rng.randrange(100):02d}",
                f"Letter to {first[0].lower()}.{last.lower()}@example.org",
            )
        )

    def arrivals(self, count: int) -> list[dt.datetime]:
        """`count` moments of the year, in their order."""
        first = dt.date(_YEAR, 1, 1).toordinal()
        moments = []
        for _ in range(count):
            day = dt.date.fromordinal(self._rng.randint(first, _LAST_DAY.toordinal()))
            hour = self._rng.choices(range(24), _HOURS)[0]
            moments.append(dt.datetime.combine(day, dt.time(hour, self._rng.randrange(60))))
        return sorted(moments)


def write_example(directory: Path, rows: int = 1000, seed: int = 7) -> Path:
    """Write `rows` synthetic visits to `directory`/visits.csv and return its path. The same seed gives the same file.

    Raises ConfigError where `rows` is not positive, ResourceError where the file cannot be written.
    """
    if rows < 1:
        raise ConfigError("The example needs at least one row.", "Ask for a positive number of rows.")
    department = _Department(seed)
    arrivals = enumerate(department.arrivals(rows), start=1)
    visits = [{"visit_id": f"V{number:06d}", **department.visit(arrival)} for number, arrival in arrivals]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(visits[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(visits)
    path = directory / "visits.csv"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"Cannot make {directory}: {error.strerror}.", "Choose a directory you may write to.") from None
    write_file(path, out.getvalue())
    return path


def example_config(source: Path, workspace: str, rows: int = 1000) -> str:
    """The commented `localsynth.toml` of the example that `write_example` wrote to `source` with `rows` rows.

    `workspace` is how the user calls the workspace, for the commands in the comments.
    """
    # A JSON string without escaped non-ASCII characters is also a TOML string.
    return _beside("localsynth.toml.in").format(
        source=json.dumps(str(source), ensure_ascii=False),
        workspace=workspace,
        rows=rows,
        year=_YEAR,
        complaints="\n".join(f'  "{name}",' for name in _COMPLAINTS),
    )


def prepare_demo(root: Path) -> str:
    """Make the demo's workspace unless it exists, so that an interrupted demo resumes; returns what was done, in words."""
    workspace = Workspace(root)
    if workspace.config_path.exists():
        return f"Resuming the demo in {root}."
    Workspace.create(root)
    source = write_example(root.with_name(root.name + "-source"))
    write_file(workspace.config_path, example_config(source, str(root)))
    return f"Made {source}: synthetic visits to an emergency department. They stand in for the private table."
