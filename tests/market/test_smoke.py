from tests.market.world import *


def test_x(world, session):
    a, b = world.traders[:2]
    e = session.submit(a, bundle_of((0, BUY, 60, 1000)))
    e = session.submit(b, bundle_of((0, SELL, 40, 1000)))
    print(e, session.bundle(a), session.state())
    r = session.run_auction()
    print(r, session.claim(a, bundle_of((0, BUY, 60, 1000))))
    print(session.settle(b, bundle_of((0, SELL, 40, 1000))))
    print(session.market.termsOf(session.id))


def test_y(world, session):
    a, b = world.traders[:2]
    assert session.bundle(a)["sequence"] == 0
    session.submit_signed(session.signed(a, bundle_of((0, BUY, 60, 1000))))
