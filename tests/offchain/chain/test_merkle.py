"""
MerkleTree
├── no leaf, leaf of other than 32 bytes → DomainError
├── one leaf → root is the leaf, proof empty
└── else → root of OpenZeppelin's standard tree
    ├── any leaf proves; a changed leaf, a leaf of another tree and an inner node's child do not
    ├── proof of a leaf by its hash → the same; a leaf that is not in the tree → DomainError
    ├── leaves in another order → same root, every proof still valid
    └── the same leaf twice → both prove
"""

import time

import pytest
from eth_abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.merkle import MerkleTree, verify
from offchain.domain.errors import DomainError

leaf = st.binary(min_size=32, max_size=32)
leaves = st.lists(leaf, min_size=1, max_size=70)


def some(count: int) -> list[bytes]:
    return [keccak(position.to_bytes(4)) for position in range(count)]


def test_merkle_tree_fails_when_there_is_no_leaf():
    with pytest.raises(DomainError, match="tree without leaves"):
        MerkleTree([])


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_merkle_tree_fails_when_a_leaf_is_not_32_bytes(size):
    with pytest.raises(DomainError, match=f"leaf 1 has {size} bytes"):
        MerkleTree([bytes(32), bytes(size)])


def test_root_is_the_leaf_when_there_is_one():
    tree = MerkleTree([b"\x01" * 32])
    assert (tree.root, tree.proofs()) == (b"\x01" * 32, [[]])


def test_root_equals_the_published_example_of_openzeppelin():
    """README of ``@openzeppelin/merkle-tree``: two (address, uint256) values, double-hashed leaves."""
    values = [("0x" + "11" * 20, 5 * 10**18), ("0x" + "22" * 20, 25 * 10**17)]
    tree = MerkleTree([keccak(keccak(encode(["address", "uint256"], value))) for value in values])
    assert tree.root.hex() == "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


def test_root_equals_hashing_by_hand_when_there_are_three_leaves():
    a, b, c = sorted(some(3))
    pair = lambda x, y: keccak(min(x, y) + max(x, y))  # noqa: E731
    # Five nodes: leaves from the end backwards are a, b, c; node 1 is the parent of nodes 3 and 4 (b and a).
    assert MerkleTree([a, b, c]).root == pair(pair(a, b), c)


@given(leaves)
def test_proofs_lead_to_the_root_for_every_leaf(leaves):
    tree = MerkleTree(leaves)
    assert len(tree) == len(leaves)
    assert all(verify(tree.root, leaf, proof) for leaf, proof in zip(leaves, tree.proofs(), strict=True))


@given(leaves, leaf)
def test_proof_of_leads_to_the_root_for_every_leaf_and_no_other(leaves, other):
    tree = MerkleTree(iter(leaves))
    assert all(verify(tree.root, leaf, tree.proof_of(leaf)) for leaf in leaves)
    if other not in leaves:
        with pytest.raises(DomainError, match="no leaf"):
            tree.proof_of(other)


@given(leaves, st.data())
def test_verify_is_false_when_the_leaf_is_changed(leaves, data):
    tree = MerkleTree(leaves)
    position = data.draw(st.integers(0, len(leaves) - 1))
    bit = data.draw(st.integers(0, 255))
    changed = (int.from_bytes(leaves[position]) ^ 1 << bit).to_bytes(32)
    assert not verify(tree.root, changed, tree.proof(position))


@given(leaves, st.data())
def test_verify_is_false_when_the_proof_is_changed(leaves, data):
    tree = MerkleTree([*leaves, bytes(32)])
    position = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.proof(position)
    at = data.draw(st.integers(0, len(proof) - 1))
    changed = (int.from_bytes(proof[at]) ^ 1 << data.draw(st.integers(0, 255))).to_bytes(32)
    assert not verify(tree.root, leaves[position], [*proof[:at], changed, *proof[at + 1 :]])
    assert not verify(tree.root, leaves[position], proof[:-1])


@given(st.data(), leaves)
def test_root_is_the_same_when_leaves_come_in_another_order(data, leaves):
    tree, order = MerkleTree(leaves), data.draw(st.permutations(range(len(leaves))))
    shuffled = MerkleTree([leaves[position] for position in order])
    assert shuffled.root == tree.root
    for place, position in enumerate(order):
        assert verify(tree.root, leaves[position], shuffled.proof(place))


def test_proofs_are_valid_for_both_when_a_leaf_is_there_twice():
    tree = MerkleTree([*some(5), some(5)[2]])
    assert verify(tree.root, some(5)[2], tree.proof(2))
    assert verify(tree.root, some(5)[2], tree.proof(5))


def test_verify_is_false_when_the_leaf_is_of_another_tree():
    tree, other = MerkleTree(some(8)), MerkleTree(some(9))
    assert not verify(other.root, some(8)[0], tree.proof(0))


@pytest.mark.parametrize(("count", "longest"), [(2, 1), (96, 7), (100, 7), (1000, 10)])
def test_proofs_are_as_long_as_the_tree_is_high(count, longest):
    assert max(map(len, MerkleTree(some(count)).proofs())) == longest


def test_tree_of_10000_leaves_is_built_and_proven_within_a_second():
    leaves = some(10_000)
    started = time.perf_counter()
    MerkleTree(leaves).proofs()
    assert time.perf_counter() - started < 1
