"""What holds for the system of document 002, by subject, and the test that keeps it.

The document as we have it (../shared/seeds) gives tables, settings and components, but not the
wording of the numbered properties that its tests are said to check. So these sentences are read
from what it does say: columns and constraints, the settings, requirement 8.3 (keys) and 9.1
(JSON), and the sentences of issue 3. Where this server goes further (several processes,
checkpoints, roles) its own tests say so elsewhere.

Not here, because they do not apply: a default address open to the network (`0.0.0.0`; here it is
127.0.0.1 until somebody opens it), `DATABASE_PATH` (DATABASE_URL), an accuracy that is never
null (a regression has none), one row a model and dataset (here both have versions).
"""

import importlib
from pathlib import Path

import pytest

PROPERTIES = {
    "sessions": [
        (
            "ids are unique",
            "properties.test_sessions::test_ids_are_unique_even_when_chance_repeats",
        ),
        ("the state that is told is real", "properties.test_sessions::test_every_door_tells_the"),
        ("states move along one table", "jobs.test_transitions::test_it_refuses_every_move_that"),
        ("a configuration is kept as asked", "properties.test_answers::test_a_session_keeps_its"),
        ("what has ended has a time of its end", "properties.test_sessions::test_every_door_tells"),
        ("a failure has a sentence", "sessions.test_supervision::test_a_failure_of_the_config"),
        ("an unknown id is 404", "properties.test_data::test_an_unknown_id_is_404_wherever"),
        (
            "only an ended one is deleted",
            "sessions.test_api::test_only_an_ended_session_is_deleted",
        ),
    ],
    "metrics": [
        (
            "E epochs have E entries, in order",
            "properties.test_sessions::test_e_epochs_have_exactly",
        ),
        ("one entry a session and epoch", "sessions.test_ingest::test_history_fills_the_epochs"),
        ("what repeats overwrites", "sessions.test_ingest::test_a_resumed_attempt_overwrites"),
        ("the newest is found", "properties.test_sessions::test_e_epochs_have_exactly"),
    ],
    "logs": [
        ("read whole and in order", "properties.test_sessions::test_a_log_is_read_whole_and_in"),
        ("filtered by level", "properties.test_sessions::test_a_log_is_read_whole_and_in_order"),
        ("whatever the text says", "test_logs::test_a_record_is_one_line_whatever_it_says"),
    ],
    "models": [
        ("downloaded as registered", "properties.test_data::test_a_model_is_downloaded_as_it_was"),
        ("numbers are never given twice", "models_registry.test_services::test_it_never_gives_a"),
        ("a session makes one", "models_registry.test_services::test_it_registers_a_session_once"),
        (
            "the list tells size and time",
            "models_registry.test_api::test_it_lists_models_with_facts",
        ),
        ("an unknown one is 404", "properties.test_data::test_an_unknown_id_is_404_wherever"),
    ],
    "datasets": [
        ("downloaded as uploaded", "properties.test_data::test_a_dataset_is_downloaded_as_it_was"),
        ("samples are counted", "properties.test_data::test_a_dataset_is_downloaded_as_it_was"),
        ("a missing one is refused", "properties.test_sessions::test_a_dataset_that_is_not_there"),
        ("a bad file leaves nothing", "datasets.test_services::test_a_bad_file_leaves_nothing"),
        ("one in use stays", "datasets.test_services::test_a_dataset_that_a_session_learned_from"),
    ],
    "configuration": [
        ("defaults are valid", "ml.test_config::test_every_default_passes_its_own_rule"),
        ("ranges hold", "properties.test_sessions::test_a_number_outside_its_range_is_refused"),
        ("only listed options", "properties.test_answers::test_an_option_that_is_not_listed_is"),
        ("settings mean what they say", "properties.test_settings::test_a_number_is_read_or"),
        ("switches too", "properties.test_settings::test_a_switch_is_read_or_stops_the_start"),
        ("several keys in one setting", "accounts.test_environment_keys::test_each_entry_opens"),
    ],
    "authentication": [
        ("nothing without a key", "accounts.test_every_route::"),
        ("every attempt is written down", "properties.test_data::test_every_attempt_is_written"),
        ("only hashes are kept", "accounts.test_keys::test_a_key_opens_and_only_its_hash_is_kept"),
        ("secrets are nowhere", "accounts.test_secrets::"),
    ],
    "responses": [
        ("JSON, whatever is asked", "properties.test_answers::test_every_list_answers_json_what"),
        (
            "errors have a sentence and a word",
            "properties.test_answers::test_every_list_answers_json",
        ),
        ("an id and a time", "api.test_middleware::test_every_answer_has_an_id_and_a_time"),
    ],
    "queue": [
        (
            "all within capacity run",
            "properties.test_sessions::test_as_many_run_as_there_are_seats",
        ),
        ("the next starts by itself", "properties.test_sessions::test_as_many_run_as_there_are"),
        ("a failure holds up nobody", "properties.test_sessions::test_as_many_run_as_there_are"),
        ("first come, first served", "jobs.test_queue::test_first_come_first_served"),
    ],
}


@pytest.mark.parametrize("subject", PROPERTIES)
def test_each_property_has_its_test(subject: str) -> None:
    for sentence, reference in PROPERTIES[subject]:
        module, _, beginning = reference.partition("::")
        found = importlib.import_module(f"{Path(__file__).parents[1].name}.{module}")
        tests = [name for name in dir(found) if name.startswith("test_")]
        assert any(name.startswith(beginning) for name in tests), (sentence, reference)
