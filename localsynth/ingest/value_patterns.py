"""Patterns of some kinds of values. Loose on purpose: they are used to be careful, not to parse."""

import re

DATE = re.compile(r"[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}([ T].*)?")
"""A date in figures, with or without a time: 2020-12-31T10:00Z, 31.12.2020, 12/31/20."""
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PHONE = re.compile(r"(\+|\(|00)[0-9() ./-]{6,20}")
UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
