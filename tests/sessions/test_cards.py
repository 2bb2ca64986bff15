"""What the first card of a model says, and when it says nothing."""

import pytest

from ml.rundir import RunDir
from sessions.cards import MOST_CHARACTERS, write_card
from sessions.models import TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db
FROM_NOTHING = {
    "from_scratch": True,
    "layers": 4,
    "hidden_size": 256,
    "vocabulary_size": 2048,
    "max_length": 128,
}


def run_of(session: TrainingSession) -> RunDir:
    run = RunDir(session.run_path)
    run.model_path.mkdir(parents=True)
    return run


def test_what_the_recipe_wrote_comes_first() -> None:
    session = factories.session(recipe="features", config={})
    run = run_of(session)
    (run.model_path / "README.md").write_text("Good for nothing." + "x" * MOST_CHARACTERS)
    card = write_card(session, run, {})
    assert card.startswith("Good for nothing.")
    assert len(card) == MOST_CHARACTERS


def test_a_model_from_nothing_says_what_it_cannot_do() -> None:
    version = factories.dataset_version(name="functions")
    session = factories.session(recipe="causal", config=FROM_NOTHING, dataset_version=version)
    card = write_card(session, run_of(session), {"perplexity": 7.389, "val_loss": 2.0})
    assert "4 layers of width 256" in card
    assert "nothing but functions@1" in card
    assert "* perplexity on held-back samples: 7.39" in card
    assert "means little" in card


def test_a_tuned_model_gets_no_card_of_its_own() -> None:
    session = factories.session(recipe="causal", config={"from_scratch": False})
    assert write_card(session, run_of(session), {}) == ""
