"""Who takes part: accounts and keys of a pilot, derived from its seed.

Keys of a pilot are as public as its seed; they exist on its local chain alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coincurve import PrivateKey
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from offchain.chain.signatures import address_of, signing_key
from offchain.chain.signers import signer


def commitment(seed: int, what: str) -> bytes:
    """Salted commitment to an identity, a point of delivery or a serial number, 32 bytes."""
    salt = keccak(f"gridpact pilot {seed} salt {what}".encode())
    return keccak(salt + what.encode())


@dataclass(frozen=True)
class Prosumer:
    """One connection and who and what stands behind it.

    ``position`` is that of the connection in the scenario.
    """

    position: int
    name: str
    wallet: PrivateKey
    address: str
    device: PrivateKey
    device_address: str
    connection_id: bytes
    meter_id: bytes


@dataclass(frozen=True)
class Cast:
    """All actors of a pilot; senders of transactions are accounts, those who only sign are keys."""

    admin: LocalAccount
    registrar: LocalAccount
    dso: LocalAccount
    operator: LocalAccount
    relayer: LocalAccount
    market_operator: LocalAccount
    aggregators: tuple[LocalAccount, ...]
    prosumers: tuple[Prosumer, ...]

    @property
    def senders(self) -> tuple[LocalAccount, ...]:
        roles = (self.admin, self.registrar, self.dso, self.operator, self.relayer, self.market_operator)
        return (*roles, *self.aggregators)

    @property
    def names(self) -> dict[str, str]:
        """Address to name, for people."""
        named = {
            self.admin.address: "platform operator",
            self.registrar.address: "registrar",
            self.dso.address: "DSO",
            self.operator.address: "meter operator",
            self.relayer.address: "relayer",
            self.market_operator.address: "market operator",
        }
        named |= {a.address: f"aggregator {chr(65 + i)}" for i, a in enumerate(self.aggregators)}
        return named | {p.address: p.name for p in self.prosumers}


def make_cast(seed: int, connection_ids: Sequence[str], *, aggregators: int) -> Cast:
    """Actors for a grid with these connections."""

    def secret(role: str) -> bytes:
        return keccak(f"gridpact pilot {seed} key {role}".encode())

    def prosumer(position: int, connection: str) -> Prosumer:
        wallet, device = (
            signing_key(secret(f"wallet {connection}")),
            signing_key(secret(f"meter {connection}")),
        )
        return Prosumer(
            position,
            connection,
            wallet,
            address_of(wallet),
            device,
            address_of(device),
            commitment(seed, f"connection {connection}"),
            commitment(seed, f"meter {connection}"),
        )

    names = ("admin", "registrar", "dso", "operator", "relayer", "market_operator")
    roles = {role: signer(secret(role)) for role in names}
    return Cast(
        **roles,
        aggregators=tuple(signer(secret(f"aggregator {i}")) for i in range(aggregators)),
        prosumers=tuple(prosumer(i, c) for i, c in enumerate(connection_ids)),
    )
