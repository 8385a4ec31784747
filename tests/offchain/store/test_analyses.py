"""put_analyses, latest_analyses: by kind and subject, as it was known at a moment; values that JSON does not have."""

import pytest

from offchain.domain.errors import DomainError
from offchain.store import open_store
from offchain.store.analyses import Analysis, latest_analyses, put_analyses


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "analyses.db") as opened:
        with opened.write() as connection:
            put_analyses(connection, [segment("a", 100, 1), segment("a", 200, 3), segment("b", 150, 2)])
        yield opened


def segment(subject, belief_time, cluster):
    return Analysis(subject, "segment", belief_time, "model:1", {"cluster": cluster})


def clusters(store, *arguments, **known):
    with store.read() as connection:
        found = latest_analyses(connection, "segment", *arguments, **known)
    return {name: analysis.content["cluster"] for name, analysis in found.items()}


def test_latest_analyses_are_the_last_ones_when_there_are_several(store):
    assert clusters(store) == {"a": 3, "b": 2}
    assert clusters(store, ["a", "stranger"]) == {"a": 3}


def test_latest_analyses_are_those_known_then_when_asked_for_a_moment(store):
    assert clusters(store, known_at=199) == {"a": 1, "b": 2}
    assert clusters(store, known_at=99) == {}


def test_put_analyses_leaves_the_first_when_put_twice(store):
    with store.write() as connection:
        assert put_analyses(connection, [segment("a", 100, 9)]) == 0
    assert clusters(store, known_at=100) == {"a": 1}


def test_put_analyses_says_what_is_wrong_when_a_value_is_nan(store):
    with store.write() as connection, pytest.raises(DomainError, match="a value that JSON does not have"):
        put_analyses(connection, [segment("a", 300, float("nan"))])
