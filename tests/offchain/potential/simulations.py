"""Assets step by step, written without the package: what really happens when an order is carried out.

Each returns the energy moved in the ordered ISPs and asserts on the way that no limit of the asset is broken.
"""

import numpy as np

TOLERANCE = 1e-3


def battery(asset, direction, ordered_wh):
    stored, moved = asset.stored_wh, []
    for planned, ordered in zip(asset.plan_wh, ordered_wh, strict=True):
        net = planned - ordered if direction == 0 else planned + ordered
        assert -asset.discharge_w / 4 <= net <= asset.charge_w / 4
        stored += net * asset.charging if net > 0 else net / asset.discharging
        assert asset.least_wh - TOLERANCE <= stored <= asset.capacity_wh + TOLERANCE
        moved.append(abs(net - planned))
    return np.array(moved)


def vehicle(asset, direction, ordered_wh):
    """After and between orders it charges what it postponed, or leaves out what it already has."""
    stored, planned_stored, moved = asset.stored_wh, asset.stored_wh, []
    for n, (planned, ordered) in enumerate(zip(asset.plan_wh, ordered_wh, strict=True)):
        here = asset.arrival <= n < asset.departure
        if not here:
            assert ordered == 0 and planned == 0
            moved.append(0)
            continue
        planned_stored += planned * asset.charging if planned > 0 else planned / asset.discharging
        if ordered:
            net = planned - ordered if direction == 0 else planned + ordered
        else:
            behind = planned_stored - stored
            wanted = behind / asset.charging if behind > 0 else behind * asset.discharging
            net = min(max(wanted, planned), asset.charge_w / 4) if direction == 0 else min(max(wanted, 0), planned)
            if direction == 1 and planned < 0:
                net = planned
        assert -asset.discharge_w / 4 - TOLERANCE <= net <= asset.charge_w / 4 + TOLERANCE
        stored += net * asset.charging if net > 0 else net / asset.discharging
        assert -TOLERANCE <= stored <= asset.capacity_wh + TOLERANCE
        if direction == 0 and asset.discharge_w and ordered:
            assert stored >= asset.reserve_wh - TOLERANCE
        moved.append(abs(net - planned) if ordered else 0)
    assert stored >= asset.required_wh - TOLERANCE
    return np.array(moved)


def heat_store(asset, direction, ordered_wh):
    n_isps = len(asset.plan_wh)
    outside, factor, drawn = (np.broadcast_to(v, n_isps) for v in (asset.outside_c, asset.factor, asset.drawn_wh))
    temperature, moved = asset.first_c, []
    planned_temperature = asset.first_c
    for n, (planned, ordered) in enumerate(zip(asset.plan_wh, ordered_wh, strict=True)):
        power = planned - ordered if direction == 0 else planned + ordered
        assert 0 <= power <= asset.power_w / 4

        def step(now, energy, n=n):
            gain = factor[n] * energy - asset.loss_w_per_k * (now - outside[n]) * 0.25 - drawn[n]
            return now + gain / asset.capacity_wh_per_k

        temperature, planned_temperature = step(temperature, power), step(planned_temperature, planned)
        # outside of the band only as far as the plan itself is
        assert temperature >= min(asset.lowest_c, planned_temperature) - TOLERANCE
        assert temperature <= max(asset.highest_c, planned_temperature) + TOLERANCE
        moved.append(abs(power - planned))
    return np.array(moved)


def generator(asset, direction, ordered_wh):
    output = asset.output_wh + (ordered_wh if direction == 0 else -ordered_wh)
    runs = output > 0
    assert (output[runs] * 4 >= asset.least_w).all() and (output * 4 <= asset.highest_w).all() and (output >= 0).all()
    if asset.ramp_w is not None:
        assert (np.abs(np.diff(output)) * 4 <= asset.ramp_w).all()
    if asset.fuel_wh is not None:
        assert (output - asset.output_wh).sum() <= asset.fuel_wh
    return np.abs(output - asset.output_wh)
