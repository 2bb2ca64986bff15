"""Of the tests themselves."""

import pytest


@pytest.mark.xdist_group("here")
def test_the_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """They share servers and folders. pytest 9.2 with pytest-xdist 3.8 takes no notice of groups,
    and says nothing."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("not run with --dist loadgroup")
    assert request.node.nodeid.endswith("@here")
