"""Columns that identify a person, by the values first: check digits, patterns, and lists of first names.

Names of columns only support: they are in any language, and may mean something else. False alarms are cheaper than misses.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Collection
from typing import Literal, TypeAlias

from localsynth.ingest.value_patterns import EMAIL, PHONE

Fake: TypeAlias = Literal["name", "email", "phone", "address", "ip", "ipv6"]
"""The kinds of `Surrogate`."""

_MOST = 0.9
_HALF = 0.5
_FEW = 2
"""Different values of a flag: e-mail = yes/no."""
_LONGEST_ADDRESS = 120
_MOST_PRODUCTS = 100
"""Different values that a column called `name` may have and not be taken for names of persons."""
_MIN_CHECKED = 10
"""Different values that a check digit of one in ten needs to be no chance."""

_NAMES = {
    *("name", "fullname", "firstname", "lastname", "middlename", "forename", "givenname", "familyname", "surname"),
    *("personname", "patientname", "customername", "clientname", "employeename", "username"),
    *("vorname", "nachname", "nom", "prenom", "nome", "cognome", "nombre", "apellido", "naam"),
}
_ANY_NAMES = {"name", "nom", "nome", "nombre", "naam"}
"""Names of persons, or of anything else."""
_ADDRESSES = {
    *("address", "street", "streetaddress", "homeaddress", "postaladdress", "mailingaddress", "addressline1", "addressline2"),
    *("adresse", "anschrift", "strasse", "straße", "indirizzo", "direccion", "rue", "adres"),
}
_PHONES = {
    *("phone", "telephone", "mobile", "cellphone", "fax", "phonenumber", "mobilenumber", "telephonenumber", "homephone"),
    *("tel", "cell", "telefon", "handy", "telefono", "portable"),
}
_EMAILS = {"email", "emailaddress", "mail", "mailaddress", "correo", "courriel"}

_ADDRESS_SIGNS = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]+")
_STREET = re.compile(
    r"(?:.*[0-9].*\b(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|court|ct|way|place|terrace|close)\b\.?.*"
    r"|.*(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|straat)\s*[0-9]+.*"
    r"|.*\b(?:rue|avenue|boulevard|via|viale|piazza|corso|calle|avenida|plaza|ul\.)\s.*[0-9].*)",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(r"(?:dr|prof|mr|mrs|ms|miss|herr|frau|mme|dott|dott\.?ssa|sig|sra?)\.?\s+\w.*", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_][^\W\d_'’.-]*(?:['’.-][^\W\d_]*)*")


def fake_kind(words: list[str], values: Collection[str]) -> Fake | None:
    """What fake values replace a column's, if it holds a person's; `words` are those of its name, `values` the different ones."""
    name = "".join(words)
    letters = sum(any(map(str.isalpha, value)) for value in values) >= _HALF * len(values)
    digits = sum(sum(map(str.isdigit, value)) >= 5 for value in values) >= _HALF * len(values)

    def addresses() -> bool:
        return _share(_is_ip_address, values) >= _MOST

    rules: list[tuple[Fake, Callable[[], bool]]] = [
        ("email", lambda: _share(EMAIL.fullmatch, values) >= _MOST or (name in _EMAILS and letters and len(values) > _FEW)),
        ("phone", lambda: _share(PHONE.fullmatch, values) >= _MOST or (bool(_PHONES & {name, *words}) and digits)),
        ("ip", lambda: _share(lambda value: "." in value and _is_ip_address(value), values) >= _HALF and addresses()),
        ("ipv6", addresses),
        ("address", lambda: _share(_is_street, values) >= _HALF or (name in _ADDRESSES and letters and _vary(values))),
        ("name", lambda: _is_called_a_name(name, values) if name in _NAMES else _are_names(values)),
    ]
    return next((kind for kind, fits in rules if fits()), None)


def _is_street(text: str) -> bool:
    # The pattern takes time in the square of the length, and a long text is no address.
    return len(text) <= _LONGEST_ADDRESS and _STREET.fullmatch(text) is not None


def _share(test: Callable[[str], object], values: Collection[str]) -> float:
    return sum(bool(test(value)) for value in values) / len(values)


def _vary(values: Collection[str]) -> bool:
    """Whether these are more than the names of a few types: Street = Pave or Grvl."""
    return len(values) > 20 or _share(lambda value: re.search(r"[0-9]\s|\s[0-9]", value), values) >= _HALF


def _is_ip_address(text: str) -> bool:
    if not _ADDRESS_SIGNS.fullmatch(text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # Plain numbers are no texts that ipaddress reads; a version 1.2.3 is none either.
    return True


def _is_called_a_name(name: str, values: Collection[str]) -> bool:
    """Whether a column called a name may hold those of persons. A plain `name` may be that of one of some products (hawaiian)."""
    if _share(_name_words, values) >= _HALF:
        return True
    letters = _share(lambda value: any(map(str.isalpha, value)), values) >= _HALF
    return letters and len(values) > (_MOST_PRODUCTS if name in _ANY_NAMES else _FEW)


def _are_names(values: Collection[str]) -> bool:
    """Whether most are a title with a name, a first and a last name, or a first name alone."""
    if len(values) <= _FEW:
        return False
    if _share(_TITLE.fullmatch, values) >= _HALF:
        return True
    split = [_name_words(value) for value in values]
    full = [words for words in split if 2 <= len(words) <= 4]
    if len(full) >= _MOST * len(split):
        first = _first_names()
        return sum(words[0] in first or words[1] in first for words in full) >= _HALF * len(full)
    single = [words[0] for words in split if len(words) == 1]
    # Some towns are called like a person, so nearly all must be.
    return (
        len(single) >= _MOST * len(split) and len(single) >= 10 and sum(w in _first_names() for w in single) >= 0.8 * len(single)
    )


def _name_words(text: str) -> list[str]:
    """The words of what may be a name, in lower case; none of what has digits, or words in lower case."""
    parts = text.replace(",", " ").split()
    if not all(_WORDS.fullmatch(part) and part[0].isupper() for part in parts):
        return []
    return [part.casefold() for part in parts]


@functools.cache
def _first_names() -> frozenset[str]:
    """First names of five languages, from the lists of Faker."""
    from faker.providers.person import de_DE, en_US, es_ES, fr_FR, it_IT

    return frozenset(
        name.casefold() for language in (de_DE, en_US, es_ES, fr_FR, it_IT) for name in language.Provider.first_names
    )


# --- numbers of persons ----------------------------------------------------------------------------------------------

_NUMBERS = {
    **dict.fromkeys(("ssn", "sin", "nino", "nir", "svnr", "bsn"), "national identity numbers"),
    **dict.fromkeys(("iban",), "numbers of bank accounts"),
    **dict.fromkeys(("passport", "reisepass", "passeport", "passaporto"), "numbers of passports"),
    **dict.fromkeys(("mrn", "nhs"), "numbers of patients"),
    **dict.fromkeys(("plate", "kennzeichen", "vin"), "numbers of vehicles"),
    **dict.fromkeys(("taxid", "tin", "steuernummer", "licence", "license"), "numbers of persons"),
}
_SSN = re.compile(
    # US social security, UK national insurance, French NIR.
    r"[0-9]{3}-[0-9]{2}-[0-9]{4}|[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"
    r"|[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} [0-9]{2}"
)
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_CARD = re.compile(r"[3-6](?:[ -]?[0-9]){12,18}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9 ]{11,38}")
_TEN_DIGITS = re.compile(r"[0-9]{3} ?[0-9]{3} ?[0-9]{4}")


def key_kind(words: list[str], values: Collection[str]) -> str | None:
    """What numbers of persons, accounts or devices a column holds, for a message; None for others."""
    from stdnum import iban, luhn
    from stdnum.gb import nhs

    enough = len(values) >= _MIN_CHECKED
    if _share(_SSN.fullmatch, values) >= _MOST:
        return "national identity numbers"
    if _share(lambda value: _IBAN.fullmatch(value) and iban.is_valid(value), values) >= _HALF:
        return "numbers of bank accounts"
    if enough and _share(lambda value: _CARD.fullmatch(value) and luhn.is_valid(re.sub("[ -]", "", value)), values) >= _MOST:
        return "card numbers"
    if enough and _share(lambda value: _TEN_DIGITS.fullmatch(value) and nhs.is_valid(value), values) >= _MOST:
        return "numbers of patients"
    if _share(_MAC.fullmatch, values) >= _MOST:
        return "numbers of devices"
    named = next((_NUMBERS[word] for word in ("".join(words), *words) if word in _NUMBERS), None)
    has_digits = _share(lambda value: sum(map(str.isdigit, value)) >= 4 and len(value) <= 40, values) >= _MOST
    return named if has_digits and len(values) > _FEW else None
