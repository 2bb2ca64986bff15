"""What somebody may have meant who wrote a name that is not known."""

import difflib
from collections.abc import Iterable

LONGEST = 100  # of what is compared: a slip of the pen is short, and comparing takes long


def suggest(name: str, known: Iterable[str]) -> str:
    """`iris or wine`: up to three known names like this one, capitals aside; "" for none."""
    return " or ".join(_similar(name, known, most=3))


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses a name: what it may have been, else all that is known."""
    names = list(known)
    near = _similar(name, names, most=1)
    return f", did you mean '{near[0]}'?" if near else f"; known are {', '.join(names)}"


def _similar(name: str, known: Iterable[str], most: int) -> list[str]:
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name[:LONGEST].lower(), names, n=most)
    return [names[each] for each in near]
