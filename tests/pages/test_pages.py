"""What the pages answer, without a browser: who may, what is refused, what is written where."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from datasets.models import Dataset
from jobs.models import State
from sessions.models import TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db
PAGES = ["/", "/sessions/", "/sessions/new/", "/datasets/", "/models/"]
CSV = b"x,label\n1,a\n2,b\n3,a\n"


def client_of(user: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def upload(client: Client, data: bytes = CSV, **fields: str) -> Any:
    file = SimpleUploadedFile("table.csv", data)
    return client.post("/datasets/upload/", {"file": file, "name": "table", **fields})


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_to_the_server_is_sent_to_the_sign_in_page_and_back(path: str) -> None:
    answer = Client(headers={"accept": "text/html"}).get(path)
    assert answer.status_code == 302
    assert answer["Location"] == f"/login/?next={path}"


@pytest.mark.parametrize("path", [*PAGES, "/sessions", "/datasets", "/models"])
def test_each_page_answers_with_and_without_the_last_slash(owner: User, path: str) -> None:
    assert client_of(owner).get(path).status_code == 200


def test_the_root_tells_programs_what_this_server_is_without_a_key() -> None:
    answer = Client().get("/", headers={"accept": "*/*"})
    assert answer.json()["name"] == "mlserver"
    assert answer["Vary"].count("Accept") == 1


def test_signing_in_leads_to_the_page_that_was_asked_for(owner: User) -> None:
    typed = {"username": "owner", "password": "correct horse", "next": "/models/"}
    answer = Client().post("/login/", typed)
    assert (answer.status_code, answer["Location"]) == (302, "/models/")


def test_signing_in_with_a_wrong_password_says_so_and_keeps_the_name(owner: User) -> None:
    page = Client().post("/login/", {"username": "owner", "password": "wrong"}).content.decode()
    assert "do not fit together" in page
    assert 'value="owner"' in page


def test_signing_in_never_leads_to_another_host(owner: User) -> None:
    typed = {"username": "owner", "password": "correct horse", "next": "https://elsewhere.test/"}
    assert Client().post("/login/", typed)["Location"] == "/"


def test_signing_out_is_not_possible_by_following_a_link(owner: User) -> None:
    assert client_of(owner).get("/logout/").status_code == 405


def test_a_viewer_sees_sessions_but_no_button_that_is_refused(stranger: User, owner: User) -> None:
    session = factories.session(owner=owner, state=State.RUNNING)
    page = client_of(stranger).get(f"/sessions/{session.pk}/").content.decode()
    assert "/cancel/" not in page
    assert "owner or an admin may change it" in page


@pytest.mark.parametrize("path", ["/sessions/new/", "/datasets/upload/"])
def test_a_viewer_is_refused_where_something_would_change(stranger: User, path: str) -> None:
    answer = client_of(stranger).post(path)
    assert answer.status_code == 403
    assert "needs the role operator" in answer.content.decode()


def test_a_teammate_cannot_cancel_what_is_not_theirs(owner: User, teammate: User) -> None:
    session = factories.session(owner=owner)
    assert client_of(teammate).post(f"/sessions/{session.pk}/cancel/").status_code == 403
    session.job.refresh_from_db()
    assert session.job.state == State.QUEUED


def test_the_owner_cancels_by_post_only(owner: User) -> None:
    session = factories.session(owner=owner)
    client = client_of(owner)
    assert client.get(f"/sessions/{session.pk}/cancel/").status_code == 405
    assert client.post(f"/sessions/{session.pk}/cancel/").status_code == 302
    session.job.refresh_from_db()
    assert session.job.state == State.CANCELLED


def test_the_owner_changes_the_priority_of_what_waits(owner: User) -> None:
    session = factories.session(owner=owner)
    client_of(owner).post(f"/sessions/{session.pk}/priority/", {"priority": "7"})
    session.job.refresh_from_db()
    assert session.job.priority == 7


def test_cancelling_what_has_ended_shows_why_not(owner: User) -> None:
    session = factories.session(owner=owner, state=State.COMPLETED)
    answer = client_of(owner).post(f"/sessions/{session.pk}/cancel/")
    assert answer.status_code == 409
    assert "already ended" in answer.content.decode()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/sessions/train_none/", "There is no session train_none"),
        ("/datasets/none/", "Dataset not found: none"),
        ("/models/none/", "Model not found: none"),
    ],
)
def test_what_does_not_exist_is_a_page_that_says_so(owner: User, path: str, sentence: str) -> None:
    answer = client_of(owner).get(path)
    assert answer.status_code == 404
    assert sentence in answer.content.decode()


def test_an_unknown_address_is_a_page_for_browsers(owner: User) -> None:
    answer = client_of(owner).get("/nowhere")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()


def test_an_upload_makes_a_dataset_with_its_rows_on_the_page(owner: User) -> None:
    client = client_of(owner)
    answer = upload(client)
    assert (answer.status_code, answer["Location"]) == (302, "/datasets/table/")
    page = client.get("/datasets/table/").content.decode()
    assert "1–3 of 3" in page
    assert "target" in page


def test_a_broken_file_is_refused_with_the_reason_and_nothing_is_added(owner: User) -> None:
    answer = upload(client_of(owner), b"x,label\n1,a,9\n")
    assert answer.status_code == 422
    assert "Nothing was added" in answer.content.decode()
    assert not Dataset.objects.exists()


def test_an_upload_without_a_file_says_what_to_do(owner: User) -> None:
    answer = client_of(owner).post("/datasets/upload/", {"name": "x"})
    assert "Choose a file" in answer.content.decode()


def test_a_training_starts_from_the_form(owner: User) -> None:
    client = client_of(owner)
    upload(client)
    typed = {"dataset": "table@1", "epochs": "4", "hidden_sizes": "16, 8", "name": "first"}
    answer = client.post("/sessions/new/", typed)
    session = TrainingSession.objects.get()
    assert answer["Location"] == f"/sessions/{session.pk}/"
    assert (session.name, session.total_epochs) == ("first", 4)
    assert session.config["hidden_sizes"] == [16, 8]


def test_every_wrong_field_gets_its_sentence_and_keeps_what_was_typed(owner: User) -> None:
    client = client_of(owner)
    upload(client)
    typed = {"dataset": "table@1", "epochs": "many", "learning_rate": "-0.1", "priority": "0"}
    answer = client.post("/sessions/new/", typed)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "learning_rate must be greater than 0, got -0.1" in page
    assert "epochs must be a whole number, got many" in page
    assert 'value="many"' in page
    assert not TrainingSession.objects.exists()


def test_a_priority_that_is_no_number_is_refused_under_its_field(owner: User) -> None:
    client = client_of(owner)
    upload(client)
    answer = client.post("/sessions/new/", {"dataset": "table@1", "priority": "high"})
    assert "priority must be a whole number, got high" in answer.content.decode()


def test_the_form_says_how_much_work_it_is_and_the_command_before_it_starts(owner: User) -> None:
    client = client_of(owner)
    upload(client)
    page = client.get("/sessions/new/?dataset=table@1&epochs=5&batch_size=1").content.decode()
    assert "2 to learn, 1 to measure" in page
    assert "2 an epoch, 10 in all" in page
    assert "-d &#x27;{&quot;dataset&quot;: &quot;table@1&quot;" in page
    assert not TrainingSession.objects.exists()


def test_a_clone_begins_with_the_configuration_of_its_source(owner: User) -> None:
    client = client_of(owner)
    upload(client)
    client.post("/sessions/new/", {"dataset": "table@1", "epochs": "17", "dropout": "0.3"})
    source = TrainingSession.objects.get()
    page = client.get(f"/sessions/new/?from={source.pk}").content.decode()
    assert 'name="epochs" value="17"' in page
    assert "&quot;dropout&quot;: 0.3" in page


def test_numbers_stand_in_the_first_answer_without_any_script(owner: User) -> None:
    session = factories.session(
        owner=owner, state=State.RUNNING, progress=41.7, summary={"latest": {"loss": 0.12345}}
    )
    page = client_of(owner).get("/").content.decode()
    assert "0.123" in page
    list_page = client_of(owner).get("/sessions/").content.decode()
    assert session.pk in list_page
    assert "42" in list_page


def test_the_list_filters_by_tab_and_by_text(owner: User) -> None:
    factories.session(owner=owner, name="alpha", state=State.FAILED)
    factories.session(owner=owner, name="beta", state=State.RUNNING)
    client = client_of(owner)
    assert "beta" not in client.get("/sessions/?tab=failed").content.decode()
    assert "alpha" not in client.get("/sessions/?q=bet").content.decode()


def test_an_odd_page_number_finds_the_nearest_page(owner: User) -> None:
    factories.session(owner=owner)
    client = client_of(owner)
    for number in ("0", "-1", "x", "99999999999999999999"):
        assert client.get(f"/sessions/?page={number}").status_code == 200


def test_the_data_for_the_script_cannot_end_its_element(owner: User) -> None:
    session = factories.session(owner=owner, name="</script><b>", state=State.RUNNING)
    page = client_of(owner).get(f"/sessions/{session.pk}/").content.decode()
    start = page.index('<script id="session-data"')
    body = page[page.index(">", start) + 1 : page.index("</script>", start)]
    assert json.loads(body)["id"] == session.pk
    assert "<b>" not in page.replace("</b>", "").split("session-data")[0]


def test_lists_take_the_same_number_of_queries_however_long_they_are(
    owner: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        factories.session(owner=owner, state=State.COMPLETED)
        factories.model_version(name=f"m{number}", owner=owner)
    client = client_of(owner)
    for path in ("/", "/sessions/", "/datasets/", "/models/"):
        with django_assert_max_num_queries(16):
            client.get(path)
