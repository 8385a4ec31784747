"""in_rounds: all answer; some fail for now, for good, or were down before; concurrency is bounded."""

import asyncio

from offchain.domain.errors import DomainError, PermanentError, TransientError
from oracles.rounds import in_rounds


def run(jobs, **options):
    options = {"concurrency": 2, "attempts": 3, "delay_s": 0.001} | options
    return asyncio.run(in_rounds(jobs, **options))


def job(calls, name, *failures):
    outcomes = list(failures)

    async def call():
        calls.append(name)
        if outcomes:
            raise outcomes.pop(0)
        return name

    return call


def test_in_rounds_retries_after_all_others_when_failure_is_transient():
    calls = []
    jobs = {"a": job(calls, "a"), "b": job(calls, "b", TransientError("x"), TransientError("x"))}
    jobs["c"] = job(calls, "c")
    assert run(jobs, concurrency=1) == ({"a": "a", "b": "b", "c": "c"}, {})
    assert sorted(calls[:3]) == ["a", "b", "c"]
    assert calls[3:] == ["b", "b"]


def test_in_rounds_gives_up_after_attempts():
    calls = []
    error = TransientError("down")
    results, errors = run({"a": job(calls, "a", *[error] * 9)})
    assert (results, errors, len(calls)) == ({}, {"a": error}, 3)


def test_in_rounds_does_not_retry_when_failure_is_permanent():
    for error in (PermanentError("wrong map"), DomainError("wrong value")):
        calls = []
        assert run({"a": job(calls, "a", error)}) == ({}, {"a": error})
        assert calls == ["a"]


def test_in_rounds_asks_once_and_last_when_device_was_down():
    calls = []
    jobs = {"down": job(calls, "down", *[TransientError("x")] * 9), "up": job(calls, "up")}
    results, errors = run(jobs, concurrency=1, once={"down"})
    assert calls == ["up", "down"]
    assert (set(results), set(errors)) == ({"up"}, {"down"})


def test_in_rounds_bounds_concurrency():
    running, most = 0, 0

    async def slow():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    run(dict.fromkeys(range(20), slow), concurrency=3)
    assert most == 3


def test_in_rounds_returns_nothing_when_there_are_no_jobs():
    assert run({}) == ({}, {})
