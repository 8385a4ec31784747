"""EnergyCertificates: issued to buyers, redeemed in the mix that was injected, retired once."""

from collections import Counter

import pytest

from tests.market.settling import ISPS, position
from tests.market.world import BUY, SELL, SOLAR, bundle_of, price_tick
from tests.utils.evm import reverts

AT = price_tick(120_000)
HYDRO = 3
GREEN_0 = 4
PURPOSE = b"\x07" * 32


@pytest.fixture
def pool(settling):
    """Two green producers of different class sell 600 and 300 Wh of period 0 to one buyer."""
    solar, hydro, buyer = settling.traders[:3]
    settling.set_producer_class(solar, SOLAR)
    settling.set_producer_class(hydro, HYDRO)
    session = settling.open()
    bundles = {
        solar: bundle_of((GREEN_0, SELL, AT, 600)),
        hydro: bundle_of((GREEN_0, SELL, AT, 300)),
        buyer: bundle_of((GREEN_0, BUY, AT, 900)),
    }
    for trader, bundle in bundles.items():
        session.submit(trader, bundle)
    session.run_auction()
    return session, bundles


def close(world, session, bundles, injected: dict) -> None:
    """Settles all, the sellers with what they injected in the first ISP, and closes the session."""
    nothing = [(0, 0)] * (ISPS - 1)
    readings = {trader: [(900, injected.get(trader, 0)), *nothing] for trader in bundles}
    evidence = world.anchor(session, {t: r[:8] for t, r in readings.items()})
    for trader, bundle in bundles.items():
        world.settlement.settle(session.id, trader.connection, [position(session, bundle)], [evidence[trader]])
    world.market.closeSession(session.id)


def balances(world, session, holder) -> Counter:
    certificates = world.certificates
    ids = {"certificate": certificates.certificateId(session.id, GREEN_0)}
    ids |= {name: certificates.guaranteeId(session.id, GREEN_0, c) for name, c in (("solar", 1), ("hydro", 3))}
    return Counter({name: certificates.balanceOf(holder.address, token_id) for name, token_id in ids.items()})


def test_issue_gives_the_buyer_a_certificate_for_every_wh(settling, pool):
    session, bundles = pool
    buyer = settling.traders[2]
    settling.certificates.issue(session.id, buyer.connection, bundles[buyer])
    assert settling.evm.event("CertificatesIssued")["holder"] == buyer.address
    assert balances(settling, session, buyer) == Counter(certificate=900)


def test_issue_refuses_a_second_time(settling, pool):
    session, bundles = pool
    buyer = settling.traders[2]
    settling.certificates.issue(session.id, buyer.connection, bundles[buyer])
    with reverts("AlreadyCertified", session.id, buyer.connection):
        settling.certificates.issue(session.id, buyer.connection, bundles[buyer])


def test_issue_refuses_while_paused(settling, pool):
    session, bundles = pool
    buyer = settling.traders[2]
    settling.certificates.pause(sender=settling.admin.address)
    with reverts("EnforcedPause"):
        settling.certificates.issue(session.id, buyer.connection, bundles[buyer])


def test_issue_refuses_a_bundle_that_bought_nothing(settling, pool):
    session, bundles = pool
    seller = settling.traders[0]
    with reverts("NothingIssued", session.id, seller.connection):
        settling.certificates.issue(session.id, seller.connection, bundles[seller])


def test_redeem_gives_guarantees_in_the_mix_that_was_injected(settling, pool):
    session, bundles = pool
    solar, hydro, buyer = settling.traders[:3]
    settling.certificates.issue(session.id, buyer.connection, bundles[buyer])
    close(settling, session, bundles, {solar: 600, hydro: 200})
    certificate = settling.certificates.certificateId(session.id, GREEN_0)
    settling.certificates.redeem(certificate, 90, sender=buyer.address)
    # The example of IEnergyCertificates: 900 Wh matched, 600 solar and 200 hydro injected.
    assert balances(settling, session, buyer) == Counter(certificate=810, solar=60, hydro=20)
    settling.certificates.redeem(certificate, 810, sender=buyer.address)
    assert balances(settling, session, buyer) == Counter(solar=600, hydro=200)


def test_redeem_follows_the_certificate_when_it_was_transferred(settling, pool):
    session, bundles = pool
    solar, hydro, buyer = settling.traders[:3]
    settling.certificates.issue(session.id, buyer.connection, bundles[buyer])
    certificate = settling.certificates.certificateId(session.id, GREEN_0)
    settling.certificates.safeTransferFrom(
        buyer.address, settling.outsider.address, certificate, 450, b"", sender=buyer.address
    )
    close(settling, session, bundles, {solar: 600, hydro: 300})
    settling.certificates.redeem(certificate, 450, sender=settling.outsider.address)
    assert balances(settling, session, settling.outsider) == Counter(solar=300, hydro=150)
    with pytest.raises(Exception, match="ERC1155InsufficientBalance"):
        settling.certificates.redeem(certificate, 451, sender=buyer.address)


def test_redeem_waits_until_the_session_is_closed(settling, pool):
    session, bundles = pool
    buyer = settling.traders[2]
    settling.certificates.issue(session.id, buyer.connection, bundles[buyer])
    certificate = settling.certificates.certificateId(session.id, GREEN_0)
    with reverts("SessionNotClosed", session.id):
        settling.certificates.redeem(certificate, 1, sender=buyer.address)


def test_retire_burns_a_guarantee_once(settling, pool):
    session, bundles = pool
    solar, hydro, buyer = settling.traders[:3]
    settling.certificates.issue(session.id, buyer.connection, bundles[buyer])
    close(settling, session, bundles, {solar: 600, hydro: 300})
    certificate = settling.certificates.certificateId(session.id, GREEN_0)
    settling.certificates.redeem(certificate, 900, sender=buyer.address)
    guarantee = settling.certificates.guaranteeId(session.id, GREEN_0, SOLAR)
    settling.certificates.retire(guarantee, 600, PURPOSE, sender=buyer.address)
    assert settling.evm.event("Retired")["purpose"] == PURPOSE
    with pytest.raises(Exception, match="ERC1155InsufficientBalance"):
        settling.certificates.retire(guarantee, 1, PURPOSE, sender=buyer.address)
    with reverts("NotAGuarantee", certificate):
        settling.certificates.retire(certificate, 1, PURPOSE, sender=buyer.address)
    with reverts("NotACertificate", guarantee):
        settling.certificates.redeem(guarantee, 1, sender=buyer.address)


def test_record_injection_is_for_modules_alone(settling):
    with reverts("NotModule", settling.outsider.address):
        settling.certificates.recordInjection(1, b"\x01" * 32, [1], sender=settling.outsider.address)


def test_set_producer_class_is_for_registrars_and_known_connections(settling):
    trader = settling.traders[0]
    with pytest.raises(Exception, match="MissingRole"):
        settling.producers.setProducerClass(trader.connection, SOLAR, sender=trader.address)
    with reverts("ConnectionUnknown", b"\x09" * 32):
        settling.producers.setProducerClass(b"\x09" * 32, SOLAR, sender=settling.registrar.address)


@pytest.mark.parametrize(("producer_class", "green"), [(0, False), (1, True), (4, True), (5, False), (6, False)])
def test_is_green_from_solar_to_biomass(settling, producer_class, green):
    trader = settling.traders[0]
    settling.set_producer_class(trader, producer_class)
    assert settling.producers.isGreen(trader.connection) is green
