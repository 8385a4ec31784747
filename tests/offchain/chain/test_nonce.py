"""take: first → asks the node; then counts; reset → asks again; threads → every number once"""

import threading

from offchain.chain.nonce import NonceQueue


def test_take_asks_the_node_once_and_then_counts():
    asked = []
    queue = NonceQueue(lambda: asked.append(1) or 7)
    assert [queue.take() for _ in range(3)] == [7, 8, 9]
    assert len(asked) == 1


def test_take_asks_again_when_it_was_reset():
    answers = iter([7, 3])
    queue = NonceQueue(lambda: next(answers))
    queue.take()
    queue.reset()
    assert queue.take() == 3


def test_take_gives_every_number_once_when_threads_share_it():
    queue, taken = NonceQueue(lambda: 0), []

    def work():
        for _ in range(200):
            with queue:
                taken.append(queue.take())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == list(range(1600))
