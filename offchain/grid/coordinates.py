"""Where buses, lines and connections lie: what a map of the grid needs."""

from dataclasses import dataclass

from offchain.grid.scenario import Scenario


@dataclass(frozen=True, slots=True)
class MapLine:
    """A line or transformer as a straight segment."""

    name: str
    from_lon: float
    from_lat: float
    to_lon: float
    to_lat: float


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A bus with the connection at it, or ``None``."""

    name: str
    lon: float
    lat: float
    connection_id: str | None


@dataclass(frozen=True, slots=True)
class GridMap:
    """Geometry in degrees (WGS 84); points, lines and transformers in the order of the grid."""

    points: tuple[MapPoint, ...]
    lines: tuple[MapLine, ...]
    transformers: tuple[MapLine, ...]


def grid_map(scenario: Scenario) -> GridMap:
    """The geometry of a scenario's grid, from the data set's coordinates."""
    grid = scenario.grid
    connection_at = {c.bus: c.id for c in scenario.connections}
    lon, lat = grid.bus_lon.tolist(), grid.bus_lat.tolist()

    def segments(names, starts, ends) -> tuple[MapLine, ...]:
        ends_of = zip(names.tolist(), starts.tolist(), ends.tolist(), strict=True)
        return tuple(MapLine(name, lon[a], lat[a], lon[b], lat[b]) for name, a, b in ends_of)

    return GridMap(
        points=tuple(
            MapPoint(name, lon[i], lat[i], connection_at.get(i)) for i, name in enumerate(grid.bus_name.tolist())
        ),
        lines=segments(grid.line_name, grid.line_from, grid.line_to),
        transformers=segments(grid.trafo_name, grid.trafo_hv, grid.trafo_lv),
    )
