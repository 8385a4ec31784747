"""Units that devices, files and services use, and the factors to the units of the ports."""

from fractions import Fraction

from oracles.sources.port import Quantity

WH: dict[str, int] = {"Wh": 1, "kWh": 1_000, "MWh": 1_000_000}
"""Energy to Wh."""

_PREFIXED = {
    Quantity.ACTIVE_POWER: ("W", "kMm"),
    Quantity.REACTIVE_POWER: ("var", "kMm"),
    Quantity.REACTIVE_ENERGY_Q1: ("varh", "kM"),
    Quantity.REACTIVE_ENERGY_Q2: ("varh", "kM"),
    Quantity.REACTIVE_ENERGY_Q3: ("varh", "kM"),
    Quantity.REACTIVE_ENERGY_Q4: ("varh", "kM"),
    Quantity.SESSION_ENERGY: ("Wh", "kM"),
    Quantity.VOLTAGE: ("V", "km"),
    Quantity.CURRENT: ("A", "km"),
    Quantity.PHASE_ANGLE: ("°", ""),
    Quantity.FREQUENCY: ("Hz", "m"),
    Quantity.STATE_OF_CHARGE: ("%", ""),
    Quantity.RANGE: ("km", ""),
    Quantity.TIME_TO_FULL: ("min", ""),
    Quantity.PLUGS_IN_USE: ("1", ""),
    Quantity.STATUS: ("1", ""),
    Quantity.TEMPERATURE: ("°C", ""),
    Quantity.IRRADIANCE: ("W/m2", "k"),
    Quantity.WIND_SPEED: ("m/s", ""),
    Quantity.CLOUD_COVER: ("%", ""),
    Quantity.HUMIDITY: ("%", ""),
    Quantity.PRECIPITATION: ("mm", ""),
    Quantity.PRICE: ("uToken/kWh", ""),
}
_PREFIX = {"k": Fraction(1_000), "M": Fraction(1_000_000), "m": Fraction(1, 1_000)}

UNITS: dict[Quantity, dict[str, Fraction]] = {
    quantity: {base: Fraction(1)} | {prefix + base: _PREFIX[prefix] for prefix in prefixes}
    for quantity, (base, prefixes) in _PREFIXED.items()
}
"""By quantity: unit to factor; the first unit is the one of the port."""

UNITS[Quantity.TIME_TO_FULL]["s"] = Fraction(1, 60)
UNITS[Quantity.WIND_SPEED]["km/h"] = Fraction(1_000, 3_600)
for _currency in ("token", "EUR"):
    # A token stands for a euro, as prices are shown to people (docs/glossary.md).
    UNITS[Quantity.PRICE] |= {f"{_currency}/kWh": Fraction(1_000_000), f"{_currency}/MWh": Fraction(1_000)}
UNITS[Quantity.PRICE]["ct/kWh"] = Fraction(10_000)


def unit_factor(quantity: Quantity, unit: str | None) -> Fraction:
    """Factor from ``unit`` (``None``: the one of the port) to the unit of ``quantity``; ``ValueError`` when unknown."""
    units = UNITS[quantity]
    if unit is None:
        return Fraction(1)
    if unit not in units:
        raise ValueError(f"unit {unit!r} of {quantity} is not one of {', '.join(units)}")
    return units[unit]
