"""What a model and an alias may be called, and how a reference like `digits@champion` is read."""

import re

from mlserver.lib.errors import FieldError, Invalid

LONGEST_NAME = 100
# Words that are paths of the API beside /models/{name}.
RESERVED_NAMES = frozenset(
    {"load", "loaded", "queue", "preflight", "train", "sync", "check", "upload"}
)
LATEST = "latest"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_ORG = re.compile(r"\A([^/]+)/([^/]+)\Z")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NUMBER = re.compile(r"v?[1-9][0-9]{0,8}")


def check_name(name: str) -> str:
    """The name under which a model is kept; `org/name`, as on the Hub, becomes `org--name`."""
    clean = as_kept(name)
    if not _NAME.fullmatch(clean):
        raise _invalid(
            "name",
            "a model's name has 1 to 100 letters, digits, dots, dashes or underscores "
            f"and begins with a letter, digit or underscore; got {_shown(name)}",
            name,
        )
    if clean.lower() in RESERVED_NAMES:
        raise _invalid("name", f"{clean!r} is a word of the API; choose another name", name)
    return clean


def as_kept(name: str) -> str:
    """`Salesforce/codet5-small` → `Salesforce--codet5-small`: a name that fits into an address."""
    return _ORG.sub(r"\1--\2", name)


def check_alias(alias: str) -> str:
    """An alias never looks like a number, so `digits@3` has one meaning."""
    if not _ALIAS.fullmatch(alias):
        raise _invalid(
            "alias",
            "an alias has 1 to 64 small letters, digits, dashes or underscores "
            f"and begins with a letter; got {_shown(alias)}",
            alias,
        )
    if alias == LATEST or _NUMBER.fullmatch(alias):
        raise _invalid("alias", f"{alias!r} already means a version; choose another alias", alias)
    return alias


def version_number(reference: str) -> int | None:
    """3 for `3` and `v3`; None for anything that is not a number."""
    return int(reference.removeprefix("v")) if _NUMBER.fullmatch(reference) else None


def _shown(value: str) -> str:
    return repr(value if len(value) <= LONGEST_NAME else f"{value[:LONGEST_NAME]}…")


def _invalid(field: str, message: str, value: str) -> Invalid:
    return Invalid(message, errors=[FieldError(field=field, message=message, value=value[:200])])
