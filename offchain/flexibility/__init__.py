"""Flows of HL-UC01 on chain, from what the store holds: commit, dispatch, reassign, settle."""
