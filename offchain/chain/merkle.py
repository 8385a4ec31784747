"""Merkle trees that OpenZeppelin's ``MerkleProof`` verifies on chain.

Layout of the OpenZeppelin standard tree: ``2 n - 1`` nodes in one list, root first, children of node ``i``
at ``2 i + 1`` and ``2 i + 2``, sorted leaves from the end backwards; a parent is the keccak of its two
children in ascending order. The root depends on the set of leaves alone, whatever order they come in, and the
public ``@openzeppelin/merkle-tree`` package rebuilds it.
"""

from collections.abc import Iterable, Sequence

from eth_hash.auto import keccak

from offchain.domain.errors import DomainError


def _parent(a: bytes, b: bytes) -> bytes:
    return keccak(a + b if a < b else b + a)


class MerkleTree:
    """Tree over leaves that are hashes already (see :mod:`offchain.chain.leaves`).

    Parameters
    ----------
    leaves : sequence of bytes
        At least one leaf of 32 bytes each, in any order.
    """

    def __init__(self, leaves: Sequence[bytes]):
        if not leaves:
            raise DomainError("tree without leaves", hint="there is nothing to anchor")
        for position, leaf in enumerate(leaves):
            if len(leaf) != 32:
                raise DomainError(f"leaf {position} has {len(leaf)} bytes instead of 32")
        count = len(leaves)
        nodes = [b""] * (2 * count - 1)
        self._index = [0] * count
        for rank, position in enumerate(sorted(range(count), key=leaves.__getitem__)):
            self._index[position] = index = 2 * count - 2 - rank
            nodes[index] = leaves[position]
        for index in range(count - 2, -1, -1):
            nodes[index] = _parent(nodes[2 * index + 1], nodes[2 * index + 2])
        self._nodes = nodes

    def __len__(self) -> int:
        return len(self._index)

    @property
    def root(self) -> bytes:
        return self._nodes[0]

    def proof(self, position: int) -> list[bytes]:
        """Proof of the leaf at ``position`` of the input; empty when the tree is that leaf."""
        index, siblings = self._index[position], []
        while index:
            siblings.append(self._nodes[index + 1 if index % 2 else index - 1])
            index = (index - 1) // 2
        return siblings

    def proofs(self) -> list[list[bytes]]:
        """Proofs of all leaves in the order of the input."""
        return [self.proof(position) for position in range(len(self))]


def verify(root: bytes, leaf: bytes, proof: Iterable[bytes]) -> bool:
    """Whether ``proof`` leads from ``leaf`` to ``root``."""
    node = leaf
    for sibling in proof:
        node = _parent(node, sibling)
    return node == root
