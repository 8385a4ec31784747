"""Merkle trees that OpenZeppelin's ``MerkleProof`` verifies on chain.

Layout of the OpenZeppelin standard tree: ``2 n - 1`` nodes in one list, root first, children of node ``i``
at ``2 i + 1`` and ``2 i + 2``, sorted leaves from the end backwards; a parent is the keccak of its two
children in ascending order. The root depends on the set of leaves alone, whatever order they come in, and the
public ``@openzeppelin/merkle-tree`` package rebuilds it.
"""

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
from eth_hash.auto import keccak

from offchain.domain.errors import DomainError

_SIZE = 32


def _parent(a: bytes, b: bytes) -> bytes:
    return keccak(a + b if a < b else b + a)


class MerkleTree:
    """Tree over leaves that are hashes already (see :mod:`offchain.chain.leaves`).

    All nodes lie one behind the other in one buffer: 72 bytes a leaf, with what is needed to find it by its position.

    Parameters
    ----------
    leaves : iterable of bytes
        At least one leaf of 32 bytes each, in any order.
    """

    def __init__(self, leaves: Iterable[bytes]):
        given = bytearray()
        for position, leaf in enumerate(leaves):
            if len(leaf) != _SIZE:
                raise DomainError(f"leaf {position} has {len(leaf)} bytes instead of {_SIZE}")
            given += leaf
        if not given:
            raise DomainError("tree without leaves", hint="there is nothing to anchor")
        count = len(given) // _SIZE
        descending = np.frombuffer(given, f"S{_SIZE}").argsort(kind="stable")[::-1]
        self._index = np.empty(count, np.int64)
        self._index[descending] = np.arange(count - 1, 2 * count - 1)
        rows = np.frombuffer(given, np.uint8).reshape(count, _SIZE)
        nodes = np.empty((2 * count - 1, _SIZE), np.uint8)
        np.take(rows, descending, axis=0, out=nodes[count - 1 :], mode="clip")  # "clip" writes without a copy
        self._nodes = memoryview(nodes.reshape(-1))
        for index in range(count - 2, -1, -1):
            parent = _parent(self._node(2 * index + 1), self._node(2 * index + 2))
            self._nodes[_SIZE * index : _SIZE * (index + 1)] = parent

    def __len__(self) -> int:
        return len(self._index)

    @property
    def root(self) -> bytes:
        return self._node(0)

    def proof(self, position: int) -> list[bytes]:
        """Proof of the leaf at ``position`` of the input; empty when the tree is that leaf."""
        return self._proof(int(self._index[position]))

    def proof_of(self, leaf: bytes) -> list[bytes]:
        """Proof of a leaf, wherever it was in the input.

        Raises
        ------
        DomainError
            The tree does not have this leaf.
        """
        last = 2 * len(self) - 2
        rank = bisect_left(range(len(self)), leaf, key=lambda rank: self._node(last - rank))
        if rank == len(self) or self._node(last - rank) != leaf:
            raise DomainError(f"no leaf {leaf.hex()} in the tree with root {self.root.hex()}")
        return self._proof(last - rank)

    def proofs(self) -> list[list[bytes]]:
        """Proofs of all leaves in the order of the input."""
        return [self.proof(position) for position in range(len(self))]

    def _proof(self, index: int) -> list[bytes]:
        siblings = []
        while index:
            siblings.append(self._node(index + 1 if index % 2 else index - 1))
            index = (index - 1) // 2
        return siblings

    def _node(self, index: int) -> bytes:
        return bytes(self._nodes[_SIZE * index : _SIZE * (index + 1)])


def verify(root: bytes, leaf: bytes, proof: Iterable[bytes]) -> bool:
    """Whether ``proof`` leads from ``leaf`` to ``root``."""
    node = leaf
    for sibling in proof:
        node = _parent(node, sibling)
    return node == root
