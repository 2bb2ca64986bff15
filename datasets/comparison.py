"""What changed between two versions of a dataset, from what was read of them once."""

from dataclasses import dataclass
from typing import Any

from datasets.models import DatasetVersion

Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One column that is not as it was: what of it, before and after."""

    column: str
    what: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    old: DatasetVersion
    new: DatasetVersion
    samples: int
    size_bytes: int
    columns_added: list[str]
    columns_removed: list[str]
    classes_added: list[str]
    classes_removed: list[str]
    changes: list[Change]


def compare_versions(old: DatasetVersion, new: DatasetVersion) -> Comparison:
    before, after = _columns(old), _columns(new)
    return Comparison(
        old=old,
        new=new,
        samples=new.sample_count - old.sample_count,
        size_bytes=new.size_bytes - old.size_bytes,
        columns_added=[name for name in after if name not in before],
        columns_removed=[name for name in before if name not in after],
        classes_added=_missing(_classes(new), _classes(old)),
        classes_removed=_missing(_classes(old), _classes(new)),
        changes=[
            change
            for name in after
            if name in before
            for change in _changes(name, before[name], after[name])
        ],
    )


def _columns(version: DatasetVersion) -> dict[str, Facts]:
    """What the schema says of each column, and its mean where statistics know it."""
    columns = {column["name"]: dict(column) for column in version.schema.get("columns", [])}
    for facts in version.statistics.get("columns", []):
        if facts["name"] in columns:
            columns[facts["name"]]["mean"] = facts.get("mean")
    return columns


COMPARED = ("type", "shape", "nulls", "distinct", "min", "max", "mean")


def _changes(name: str, before: Facts, after: Facts) -> list[Change]:
    return [
        Change(column=name, what=what, before=before.get(what), after=after.get(what))
        for what in COMPARED
        if before.get(what) != after.get(what)
    ]


def _classes(version: DatasetVersion) -> list[str]:
    return [str(each) for each in version.schema.get("classes") or []]


def _missing(names: list[str], known: list[str]) -> list[str]:
    return [name for name in names if name not in set(known)]
