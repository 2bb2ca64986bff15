"""`manage.py import_dataset`: the upload, for a file on this machine."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from datasets.models import Dataset


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("import_dataset", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "my table.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    return str(path)


def test_a_file_becomes_a_dataset_of_the_first_admin(admin: User, table: str) -> None:
    told = run(table)

    assert "my-table@1 holds 2 samples (table)." in told
    assert "taken as the target" in told
    assert Dataset.objects.get().owner == admin
    assert "is my-table@1 already" in run(table)


def test_the_facts_come_as_json(owner: User, table: str) -> None:
    facts = json.loads(run(table, "--owner", "owner", "--name", "t", "--target", "a", "--json"))
    assert (facts["dataset"], facts["version"], facts["is_new"]) == ("t", 1, True)
    assert (facts["target"], facts["sample_count"]) == ("a", 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nowhere/x.csv"], "No such file"),
        (["{table}", "--owner", "nobody"], "no user called nobody"),
        (["{table}", "--name", "a b"], "1 to 100 letters"),
        (["{table}", "--target", "c"], "no column 'c'"),
    ],
)
def test_a_refusal_says_why(admin: User, table: str, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*(each.format(table=table) for each in arguments))


@pytest.mark.django_db
def test_without_an_admin_it_asks_for_an_owner(table: str) -> None:
    with pytest.raises(CommandError, match="--owner"):
        run(table)
