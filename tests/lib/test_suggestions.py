"""What an unknown name may have meant."""

import time

from mlserver.lib.suggestions import hint, suggest


def test_names_like_it_are_found_whatever_their_capitals() -> None:
    assert suggest("DIGTS", ["Digits", "iris", "digits28"]) == "Digits or digits28"
    assert suggest("zzz", ["Digits"]) == suggest("digits", []) == ""


def test_a_refusal_names_the_nearest_or_all() -> None:
    assert hint("limt", ["skip", "limit"]) == ", did you mean 'limit'?"
    assert hint("zzz", ["skip", "limit"]) == "; known are skip, limit"


def test_a_name_of_a_megabyte_is_compared_at_once() -> None:
    started = time.process_time()
    suggest("x" * 10**6, [f"{'x' * 90}{number}" for number in range(100)])
    assert time.process_time() - started < 5
