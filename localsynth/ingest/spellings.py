"""The format that the values of a column share: of numbers, of dates and times, of keys. Found from the first rows.

What goes into a format is what all values have in common: signs, the order of day and month, a unit, the prefix of keys.
"""

import functools
import itertools
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from localsynth.schema.formats import Check, DurationFormat, KeyFormat, MomentFormat, NumberFormat

MIN_SHARING = 20
"""Keys that must share a prefix, or values a limit, before it is taken for a part of their form: of fewer it would be a value."""
_MIN_WITH_UNIT = 10
_MAX_KEY_LENGTH = 40


# --- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberSpelling:
    """How numbers are written. `has_limits`: some only as <0.5 or >100; `is_ambiguous`: 1,234 may also be a decimal."""

    format: NumberFormat
    is_whole: bool
    decimals: int
    has_limits: bool
    is_ambiguous: bool


_CURRENCY = r"[$€£¥₹₽₩₺₫₴฿]|[A-Z]{1,3}\$|USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|Rs\.?|kr\.?|zł|Fr\."
_NUMBER = re.compile(
    rf"(?P<limit>[<>≤≥]=?\s*)?[+\-\u2212]?\s?(?P<before>(?:(?:{_CURRENCY})\s?)?)[+\-\u2212]?"
    r"(?P<core>(?:[.,]?[0-9](?:[0-9.,'’ \u00a0\u202f]*[0-9])?[.,]?))(?P<exponent>(?:[eE][+-]?[0-9]{1,4})?)"
    r"(?P<after>(?:\s?[^0-9\s.,'’+\-][^0-9]{0,9}|\+)?)"
)
_SYMBOLS = re.compile(rf"\s?(?:{_CURRENCY}|%|‰|\+|°)")
_UNITS = re.compile(
    r"\s.*|°[CF]?|[kKMGT]?B|[kMG]?Wh?|[kmcµun]?[mglLVAs]|kHz|MHz|lbs?|oz|mi|ft|in|yd|hr?s?|min|sec|days?|years?|yrs?|[kKMm]|bp[ms]?|mmHg"
)
"""A unit without a blank before it; another suffix may be a part of a code."""
_SIGNS = [("", "."), (",", "."), ("", ","), (".", ","), (" ", ","), (" ", "."), ("'", "."), ("’", ".")]
_SIGNS += [(space, decimal) for space in ("\u00a0", "\u202f") for decimal in (",", ".")]
_ZEROS = re.compile(r"[0-9]*([.,]0+)")


def find_number_format(values: Collection[str]) -> NumberSpelling | None:
    """How `values` (stripped, without missing ones) are written, if all of them are numbers in one format."""
    found = [_NUMBER.fullmatch(value) for value in values]
    if not found or None in found:
        return None
    matches = [match for match in found if match is not None]
    before, after = (_shared([match[part] for match in matches]) for part in ("before", "after"))
    if before is None or after is None:
        return None
    if after and not _SYMBOLS.fullmatch(after) and (len(matches) < _MIN_WITH_UNIT or not _UNITS.fullmatch(after)):
        return None
    cores = [match["core"] for match in matches]
    signs = next((pair for pair in _SIGNS if _all_written(cores, *pair)), None)
    if signs is None:
        return None
    thousands, decimal = signs
    ambiguous = thousands == "," and all(core.count(",") == 1 and "." not in core for core in cores)
    if thousands == "," and any(core.isdigit() and len(core) > 3 for core in cores) and _all_written(cores, "", ","):
        thousands, decimal, ambiguous = "", ",", False
    parts = [core.partition(decimal)[2] for core in cores]
    exponents = [int(match["exponent"][1:] or 0) for match in matches]
    # "4.50" has two decimals where all values have two, else those that are not zero.
    lengths = {len(part) for part in parts}
    digits = parts if len(lengths) == 1 and not any(exponents) else [part.rstrip("0") for part in parts]
    decimals = max(max(0, len(part) - power) for part, power in zip(digits, exponents, strict=True))
    whole = all(not part.strip("0") for part in parts) and min(exponents) >= 0
    if whole:
        zeros = [match[1] for core in cores if (match := _ZEROS.fullmatch(core))]
        if len(zeros) > len(cores) / 2 and len(set(zeros)) == 1:
            after = zeros[0] + after
    has_limits = any(match["limit"] for match in matches)
    return NumberSpelling(NumberFormat(before, thousands, decimal, after), whole, decimals, has_limits, ambiguous)


def find_duration_format(values: Collection[str]) -> tuple[str, int] | None:
    """(format, decimals) of `values`, if all of them are durations such as 1:30:05 and one is longer than a day."""
    forms = [form for form in DurationFormat.FORMS if all(DurationFormat(form).read(value) for value in values)]
    if not forms:
        return None
    lengths = {value.lstrip("-").index(":") for value in values}
    decimals = max(len(value.partition(".")[2]) for value in values)
    return forms[min(lengths) > 1], decimals


def _shared(affixes: list[str]) -> str | None:
    """What stands before or after nearly every number; "" where nothing does; None where it differs."""
    present = {affix for affix in affixes if affix}
    if not present:
        return ""
    if len(present) > 1 or sum(map(bool, affixes)) < 0.9 * len(affixes):
        return None
    return present.pop()


def _all_written(cores: list[str], thousands: str, decimal: str) -> bool:
    grouped = rf"[1-9][0-9]{{0,2}}(?:{re.escape(thousands)}[0-9]{{3}})+|" if thousands else ""
    pattern = re.compile(rf"(?:{grouped}[0-9]+)(?:{re.escape(decimal)}[0-9]*)?|{re.escape(decimal)}[0-9]+")
    return all(pattern.fullmatch(core) for core in cores)


# --- dates and times -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MomentSpelling:
    """How dates or times are written. `is_ambiguous`: day and month could be the other way round.

    `has_fractions`: some seconds have fractions that are not zero.
    """

    format: MomentFormat
    is_ambiguous: bool
    has_fractions: bool


_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d. %b %Y", "%d. %B %Y"),
    *("%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d/%b/%Y", "%Y-%m", "%Y/%m", "%m/%Y", "%b %Y", "%B %Y", "%b-%Y"),
)
_TIMES = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%I:%M%p", "%H.%M.%S")
_ZONES = ("", "Z", "%z", " %z")
_SWAPPED = str.maketrans("dm", "md")
_SECONDS = re.compile(r"(?<=:[0-9]{2})[.,][0-9]{1,9}")
_COMPACT = re.compile(r"(?:19|20)[0-9]{6}")
_DIGITS = re.compile(r"[0-9]+")


_ZONE = re.compile(r"[+-][0-9]{2}:?[0-9]{2}$")
_CODE = re.compile("%(.)")


@functools.cache
def _forms() -> dict[str, list[str]]:
    """The forms, by their shape: few of them fit a value, and only these are tried."""
    found: dict[str, list[str]] = {}
    times = [f"{time}{zone}" for time in _TIMES for zone in _ZONES]
    with_times = ("".join(parts) for parts in itertools.product(_DATES, (" ", "T", ", "), times))
    for form in (*_DATES, *with_times, *_TIMES):
        shape = _CODE.sub(lambda code: {"b": "a", "B": "a", "p": "a", "z": "~"}.get(code[1], "9"), form)
        found.setdefault(_shape(shape), []).append(form)
    return found


def _shape(text: str) -> str:
    """`9/9/9 9:9 a` for "8/7/2021 1:05 PM"; a fraction of a second is left out, and a zone is ~."""
    if ":" in text:
        text = _ZONE.sub("~", _SECONDS.sub("", text))
    return re.sub("[A-Za-z]+", "a", _DIGITS.sub("9", text))


def find_moment_format(values: Collection[str]) -> MomentSpelling | None:
    """How `values` (stripped, without missing ones) are written, if all of them are dates or times of one format."""
    if not values:
        return None
    if all(_COMPACT.fullmatch(value) for value in values):
        # Eight digits are a date only where enough of them are.
        return MomentSpelling(MomentFormat("%Y%m%d"), False, False) if len(values) >= 10 and _fits("%Y%m%d", values) else None
    candidates = _forms().get(_shape(next(iter(values))), [])
    form = next((form for form in candidates if _fits(form, values)), None)
    if form is None:
        return None
    swapped = form.translate(_SWAPPED)
    ambiguous = "%d" in form and "%m" in form and not form.startswith("%Y") and _fits(swapped, values)
    fractions = any(part.strip(".,0") for value in values for part in _SECONDS.findall(value))
    return MomentSpelling(MomentFormat.of(_as_written(form, values)), ambiguous, fractions)


def _fits(form: str, values: Collection[str]) -> bool:
    written = MomentFormat.of(form)
    # A minute has two digits: 2:1 is a score.
    minutes = "%M" in form
    return all(written.read(value) is not None and not (minutes and re.search(r"[:.][0-9](?![0-9])", value)) for value in values)


def _as_written(form: str, values: Collection[str]) -> str:
    """The form without zeros where the values have none, with the fractions and with the zone that all have."""
    written = MomentFormat.of(form)
    parts = [part for value in values if (part := written.parts(value))]
    for code in "mdHI":
        if any(len(part.get(code, "00")) == 1 for part in parts):
            form = form.replace(f"%{code}", f"%-{code}")
    fractions = {(part[:1], len(part) - 1) for value in values for part in _SECONDS.findall(value) or [""]}
    if len(fractions) == 1 and (digits := fractions.pop())[0]:
        form = form.replace("%S", f"%S{digits[0]}%{digits[1]}f")
    if form.endswith("%z"):
        zones = {part["z"] for part in parts}
        if len(zones) == 1:
            return form.removesuffix("%z") + zones.pop()
        if any(":" in zone for zone in zones):
            return form.replace("%z", "%:z")
    return form


# --- keys ------------------------------------------------------------------------------------------------------------


def find_key_format(values: Collection[str]) -> KeyFormat | None:
    """The form of keys: what all of them share stands for itself. None for plain numbers, and where there is no form."""
    values = set(values)
    if len(values) < MIN_SHARING or any(set("#?") & set(value) for value in values):
        return None
    padded = len({len(value) for value in values}) == 1 and any(value.startswith("0") for value in values)
    if all(map(str.isdecimal, values)) and not padded:
        return None
    runs = [re.findall(r"[0-9]+|[A-Za-z]+|[^A-Za-z0-9]+", value) for value in values]
    if len({len(run) for run in runs}) > 1:
        return _form_of_characters(values)
    form = ""
    for texts in (set(column) for column in zip(*runs, strict=True)):
        if len(texts) == 1:
            form += next(iter(texts))
        elif all(map(str.isdecimal, texts)):
            # Numbers of different lengths grow.
            lengths = {len(text) for text in texts}
            form += "#" * (lengths.pop() if len(lengths) == 1 else 1)
        elif all(text.isalpha() and text.isascii() for text in texts) and len({len(text) for text in texts}) == 1:
            form += "?" * len(next(iter(texts)))
        else:
            return _form_of_characters(values)
    return _checked(form)


def find_checked_format(values: Collection[str]) -> tuple[str, Check] | None:
    """The form of keys with check digits, and which: of account and card numbers, articles, devices, and other numbers."""
    from stdnum import ean, iban, luhn

    values = set(values)
    if len(values) < MIN_SHARING or len(set(map(len, values))) > 1 or len(set(map(_as_form, values))) > 1:
        return None
    signs = [re.sub("[ -]", "", value) for value in values]
    rules: list[tuple[Check, Callable[[str], bool]]] = [("iban", iban.is_valid)]
    if all(re.fullmatch("[0-9]{8,19}", sign) for sign in signs):
        rules = [("ean", ean.is_valid), ("luhn", luhn.is_valid)]
    check: Check | None = next((check for check, is_valid in rules if all(map(is_valid, signs))), None)
    if check is None:
        return None
    first = next(iter(values))
    shared = sum(1 for _ in itertools.takewhile(lambda signs: len(set(signs)) == 1, zip(*values, strict=True)))
    shared = min(shared, 2) if check == "iban" else shared
    return first[:shared] + _as_form(first[shared:]), check


def _as_form(key: str) -> str:
    return re.sub("[A-Za-z]", "?", _DIGITS.sub(lambda run: "#" * len(run[0]), key))


def _form_of_characters(values: set[str]) -> KeyFormat | None:
    """The form of keys of one length, character by character: hexadecimal numbers, and codes that mix letters and digits."""
    if len({len(value) for value in values}) > 1:
        return None
    form = ""
    for characters in (set(column) for column in zip(*values, strict=True)):
        if len(characters) == 1 and not next(iter(characters)).isdigit():
            form += next(iter(characters))
        elif all(character.isalpha() and character.isascii() for character in characters):
            form += "?"
        elif all(character.isalnum() and character.isascii() for character in characters):
            form += "#"
        else:
            return None
    return _checked(form)


def _checked(form: str) -> KeyFormat | None:
    return KeyFormat(form) if ("#" in form or "?" in form) and len(form) <= _MAX_KEY_LENGTH else None
