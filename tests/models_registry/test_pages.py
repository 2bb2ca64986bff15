"""The page of a model: card, aliases, lineage, metrics against the version before."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from models_registry import services
from models_registry.cards import render_card
from models_registry.metrics import compare_metrics
from tests import factories
from tests.models_registry.folders import register


def client(user: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def page(user: User, query: str = "") -> str:
    return client(user).get(f"/models/digits/{query}").content.decode()


def test_a_card_is_markdown() -> None:
    html = render_card("# Digits\n\n* **good**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n`x<y`")

    assert "<h1>Digits</h1>" in html
    assert "<strong>good</strong>" in html
    assert "<td>1</td>" in html
    assert "<code>x&lt;y</code>" in html


@pytest.mark.parametrize(
    "card",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "[x](file:///etc/passwd)",
        "<javascript:alert(1)>",
        "![x](https://elsewhere.test/pixel.png)",
        '[x](https://a.test "\\"onmouseover=alert(1)")',
        "[a]: javascript:alert(1)\n\n[a]",
        "```<script>\nx\n```",
        "<style>*{display:none}</style>",
    ],
)
def test_a_card_cannot_run_load_or_hide_anything(card: str) -> None:
    html = render_card(card).lower()

    for tag in ("<script", "<img", "<style", "<iframe"):
        assert tag not in html
    for scheme in ("javascript:", "data:", "vbscript:", "file:"):
        assert f'href="{scheme}' not in html
    assert '" onmouseover' not in html
    assert '"onmouseover' not in html


def test_the_owner_writes_the_card_on_the_page(
    owner: User, teammate: User, stranger: User, tmp_path: Path
) -> None:
    register(tmp_path / "model", owner)
    path = "/models/digits/v/1/card/"
    assert client(teammate).post(path, {"card": "mine"}).status_code == 403
    assert client(stranger).post(path, {"card": "mine"}).status_code == 403
    answer = client(owner).post(path, {"card": "Knows **digits**.\r\n"})

    assert answer["Location"] == "/models/digits/?v=1"
    assert "<strong>digits</strong>" in page(stranger)
    assert "Save the card" in page(owner)
    assert "Save the card" not in page(teammate)
    assert services.find_version("digits").card == "Knows **digits**.\n"


def test_aliases_are_set_moved_and_removed_on_the_page(owner: User, tmp_path: Path) -> None:
    register(tmp_path / "model", owner)
    register(tmp_path / "model", owner)
    for number in (1, 2):
        client(owner).post(f"/models/digits/v/{number}/alias/", {"alias": "@champion"})
        assert services.find_version("digits@champion").number == number
    assert "@champion" in page(owner)
    assert client(owner).post("/models/digits/v/1/alias/", {"alias": "1"}).status_code == 422
    assert client(owner).post("/models/digits/v/2/delete/").status_code == 409

    client(owner).post("/models/digits/aliases/champion/delete/")
    assert client(owner).post("/models/digits/v/2/delete/").status_code == 302
    assert services.find_version("digits").number == 1


def test_a_page_is_asked_for_a_version_as_the_api_is(owner: User, tmp_path: Path) -> None:
    for _ in range(2):
        register(tmp_path / "model", owner)
    services.set_alias(
        services.find_model("digits"), "old", services.find_version("digits@1"), owner
    )

    for query in ("?v=1", "?v=v1", "?v=old"):
        assert "version 1<" in page(owner, query)
    assert "version 2<" in page(owner)
    assert "has no version &#x27;7&#x27;. It has 2, 1, old." in page(owner, "?v=7")


def test_the_lineage_leads_to_the_very_dataset_version_and_session(
    owner: User, tmp_path: Path
) -> None:
    register(tmp_path / "model", owner, session="train_1")
    html = page(owner)

    assert 'href="/datasets/digits/?v=1"' in html
    assert 'href="/sessions/train_1/"' in html


def test_metrics_stand_beside_those_of_the_version_before(owner: User) -> None:
    metrics = {"val_accuracy": 0.9, "val_loss": 0.5, "epochs": 3}
    factories.model_version(name="digits", owner=owner, metrics=metrics)
    factories.model_version(
        name="digits", owner=owner, metrics={"val_accuracy": 0.95, "val_loss": 0.6, "epochs": 4}
    )
    html = page(owner)

    assert "+0.0500 · better than version 1" in html
    assert "+0.100 · worse than version 1" in html
    assert "than version" not in page(owner, "?v=1")


def test_a_first_version_and_a_new_metric_have_nothing_beside_them(owner: User) -> None:
    first = factories.model_version(name="digits", metrics={"loss": 1.0, "note": "x"})
    second = factories.model_version(name="digits", metrics={"loss": 1.0, "f1": 0.5})

    assert [each.previous for each in compare_metrics(first, None)] == [None]
    assert [(each.previous, each.verdict) for each in compare_metrics(second, first)] == [
        (1.0, ""),
        (None, ""),
    ]
