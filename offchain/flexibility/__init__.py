"""Flows of HL-UC01 on chain: commit, request, offer, dispatch, reassign, settle, from what the store holds."""
