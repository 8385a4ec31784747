"""Rows for a person."""

from offchain.cli.output import columns


def test_columns_stand_under_their_names_and_lists_are_spelled_out():
    rows = [
        {"session": 1, "state": "open for orders", "netted_with": [2, 13]},
        {"session": 13, "state": "closed", "netted_with": []},
    ]
    assert columns(rows).splitlines() == [
        "session  state            netted with",
        "1        open for orders  2, 13",
        "13       closed",
    ]
