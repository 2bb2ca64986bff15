"""The pages of datasets: distributions, label balance, thumbnails, comparison, trash."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client

from datasets.comparison import compare_versions
from datasets.models import DatasetVersion
from datasets.removal import list_deleted
from datasets.services import import_upload
from jobs.models import Job
from mlserver.templatetags.histograms import histogram
from tests.datasets.test_statistics import claim, finish
from tests.ml.data.archives import pets

CSV = b"size,colour,label\n1,red,a\n2,blue,b\n3,<b>,a\n"


def take(owner: User, content: bytes = CSV, name: str = "table") -> DatasetVersion:
    return import_upload(owner=owner, name=name, upload=ContentFile(content, name="t.csv"))


def client(user: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def page(user: User, path: str = "/datasets/table/") -> str:
    return client(user).get(path).content.decode()


def test_while_statistics_are_made_the_page_asks_again(owner: User) -> None:
    take(owner)
    assert "Statistics are being made" in page(owner)
    assert 'hx-trigger="every 2s"' in page(owner)


def test_distributions_and_label_balance_are_shown(owner: User) -> None:
    take(owner)
    finish(claim())
    html = page(owner)

    assert html.count('<svg class="histogram"') >= 1
    assert "Label balance" in html
    assert 'value="0.6667"' in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert " style=" not in html


def test_missing_statistics_can_be_asked_for_on_the_page(owner: User, stranger: User) -> None:
    take(owner)
    Job.objects.all().delete()
    assert "Make statistics" in page(owner)
    assert "Make statistics" not in page(stranger)
    client(owner).post("/datasets/table/statistics/", {"v": "1"})
    assert Job.objects.count() == 1


def test_images_are_shown_small(owner: User, tmp_path: Path) -> None:
    take(owner, pets(tmp_path / "pets.zip").read_bytes(), name="pets")
    html = page(owner, "/datasets/pets/")

    assert html.count('<img class="thumb" src="data:image/png;base64,') == 4
    assert 'alt="cats"' in html


def test_a_text_that_looks_like_an_image_stays_text(owner: User) -> None:
    take(owner, b'a,label\n"data:image/png;base64,AAAA",x\nb,y\n')
    assert "<img" not in page(owner)


def test_versions_are_compared(owner: User) -> None:
    old = take(owner)
    new = take(owner, b"size,weight,label\n1,2,a\n2,3,b\n3,4,c\n9,5,a\n")
    found = compare_versions(old, new)

    assert (found.samples, found.columns_added, found.columns_removed) == (
        1,
        ["weight"],
        ["colour"],
    )
    assert (found.classes_added, found.classes_removed) == (["c"], [])
    assert ("size", "max", 3, 9) in [
        (each.column, each.what, each.before, each.after) for each in found.changes
    ]
    assert "table@2 against table@1" in page(owner)
    assert "table@1 against table@2" in page(owner, "/datasets/table/?v=1&against=2")
    assert "against table" not in page(owner, "/datasets/table/?v=1")


def test_an_unknown_name_or_version_is_answered_as_by_the_api(owner: User) -> None:
    take(owner)
    assert "table has no version 7; the newest is 1." in page(owner, "/datasets/table/?v=7")
    assert "did you mean table?" in page(owner, "/datasets/tabel/")


def test_each_version_can_be_downloaded(owner: User) -> None:
    take(owner)
    take(owner, CSV + b"4,x,a\n")
    for number in (1, 2):
        assert f'href="/api/v1/datasets/table/download?version={number}"' in page(owner)


def test_what_was_deleted_is_restored_from_the_list(owner: User, teammate: User) -> None:
    take(owner)
    answer = client(owner).post("/datasets/table/delete/", follow=True).content.decode()
    assert "lies in the trash until" in answer
    assert 'id="t-trash"' in answer
    assert 'id="t-trash"' not in page(teammate, "/datasets/")

    entry = list_deleted()[0].id
    back = client(owner).post("/datasets/table/restore/", {"entry": entry, "name": "again"})
    assert back["Location"] == "/datasets/again/"


@pytest.mark.parametrize("counts", [[3], [0, 0, 5], [1, 1_000_000]])
def test_a_histogram_shows_all_that_is_there(counts: list[int]) -> None:
    svg = histogram({"counts": counts, "edges": [0.0] * (len(counts) + 1)}, '"><script>')

    assert svg.count("<rect") == len(counts)
    assert "<script>" not in svg
    assert 'height="0.5"' not in svg
