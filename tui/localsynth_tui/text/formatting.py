"""Figures and states in plain words. Nothing here depends on a screen."""

from typing import Any

from rich.text import Text

__all__ = ["SEALS", "bar", "bytes_text", "cell", "epsilon_in_words", "plain"]


SEALS = (("as well as this machine can", "any"), ("only by the kernel (--require-seal kernel)", "kernel"))
"""Of how a job is cut off from the network: (label, value)."""


def plain(value: Any) -> str:
    """A value on one line, its control characters made visible; nothing for a null."""
    text = "" if value is None else str(value).replace("\N{NO-BREAK SPACE}", " ")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cell(value: Any, most: int = 60) -> Text:
    """A value for a table: cut to `most` characters, and never read as markup."""
    text = plain(value)
    return Text(text if len(text) <= most else text[: most - 1] + "…", no_wrap=True)


def bar(share: float, width: int) -> str:
    """A share from 0 to 1 as a bar of text; what is outside is cut."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return "█" * filled + "░" * (width - filled)


def bytes_text(count: float) -> str:
    """MB or GiB."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def epsilon_in_words(epsilon: float, unit: str) -> str:
    """One sentence on what an epsilon promises: the factor is e to the epsilon, by the definition (delta left aside)."""
    import math

    who = "any one row" if unit == "row" else f"all rows with the same {unit!r}"
    factor = math.exp(epsilon)
    times = f"{factor:.1f}" if factor < 10 else f"about {float(f'{factor:.1g}'):,.0f}"
    verdict = (
        "a strong promise"
        if epsilon <= 1
        else "a reasonable promise"
        if epsilon <= 4
        else "a modest promise, common for text"
        if epsilon <= 10
        else "a weak promise: it says little"
    )
    return f"With or without {who} in the table, no result is more than {times} times as likely, at worst: {verdict}."
