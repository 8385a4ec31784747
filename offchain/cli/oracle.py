"""``gridpact oracle``: the daemon of a site and everything an engineer does around it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli.output import JsonOption, QuietOption, note, progress_bars, result
from offchain.domain.errors import DomainError, PermanentError

if TYPE_CHECKING:
    from oracles.config import SiteConfig

app = typer.Typer(help="Daemon of a pilot site: run it, check it, look after it.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Site file (TOML).")]
DEFAULT_CONFIG = Path("site.toml")


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Collect, sign, anchor and steer until SIGTERM or Ctrl-C; a second one ends at once. Logs JSON on stderr."""
    import os
    import signal

    from oracles.checks import require_clock
    from oracles.logs import configure_logs
    from oracles.site import Site

    site_config = _load(config)
    configure_logs(site_config.name, site_config.operation.log_level)
    require_clock(site_config)
    site = Site(site_config)

    async def main() -> None:
        stop = asyncio.Event()

        def told() -> None:
            if stop.is_set():
                os._exit(130)  # everything accepted is on disk already
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        await site.run(stop)

    asyncio.run(main())


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Try every connection and permission, and say what is wrong; exit 1 when something is."""
    from oracles.checks import check_site

    findings = check_site(config, note)
    data = [{"ok": f.ok, "subject": f.subject, "text": f.text, "hint": f.hint} for f in findings]
    lines = []
    for finding in findings:
        lines.append(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.subject:20}  {finding.text}")
        if finding.hint:
            lines.append(f"{'':29}→ {finding.hint}")
    wrong = sum(not finding.ok for finding in findings)
    lines.append(f"{len(findings)} checks, {wrong} wrong")
    result(data, "\n".join(lines), as_json)
    if wrong:
        raise typer.Exit(1)


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Devices, readings, batches and what waits, from the store; works beside a running daemon."""
    data = _status(_load(config))
    devices = [f"  {meter_id[:12]}  {d['state']:22} {d['detail']}" for meter_id, d in data["devices"].items()]
    counts = [f"  {name:32} {count:>9,}" for name, count in (data["outbox"] | data["batches"]).items()]
    refused = [f"  {reason:48} {count:>9,}" for reason, count in data["rejected"].items()]
    lines = [
        f"site {data['site']}, last reading: {data['last_reading'] or 'none'}",
        "devices",
        *(devices or ["  none yet"]),
        "batches and outbox",
        *(counts or ["  empty"]),
        *(["refused values", *refused] if refused else []),
    ]
    result(data, "\n".join(lines), as_json)


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(help="Store with readings: a backup, or one that was recorded.")],
    config: ConfigOption = DEFAULT_CONFIG,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take readings of another store into this site's: what is new is signed, what differs is a correction."""
    from oracles.replaying import replay_store

    with progress_bars(quiet) as progress:
        counts = replay_store(_load(config), source, progress)
    text = "\n".join(f"{name:48} {count:>9,}" for name, count in counts.items())
    result(counts, text, as_json)


@app.command()
def keys(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Addresses to register: of the operator, and of the key of every meter."""
    from oracles.keys import SiteKeys, open_operator

    site = _load(config)
    addresses = {meter_id.hex(): address for meter_id, address in SiteKeys(site).addresses.items()}
    operator = open_operator(site.operator).address
    lines = [f"operator {operator}", *(f"{meter_id}  {address}" for meter_id, address in addresses.items())]
    result({"operator": operator, "meters": addresses}, "\n".join(lines), as_json)


@app.command("new-key")
def new_key(
    path: Annotated[Path, typer.Argument(help="Key file to make; never overwritten.")],
    password_file: Annotated[Path | None, typer.Option(help="File with its password; else it is asked for.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an encrypted key file, of an operator or of a gateway, and show its address."""
    from oracles.keys import create_key_file
    from oracles.sources.config import Secret

    if password_file is not None:
        password = Secret(file=password_file).read()
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    address = create_key_file(path, password)
    result({"file": str(path), "address": address}, f"{path}: {address}", as_json)


@app.command()
def suspend(meter: str, why: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Stop collecting from a meter (its id or the first digits of it) until `resume`."""
    _set_state(config, meter, lambda registration, meter_id: registration.suspend(meter_id, why))


@app.command()
def resume(meter: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End a suspension; the meter goes through its checks again."""
    _set_state(config, meter, lambda registration, meter_id: registration.resume(meter_id))


def _load(path: Path) -> "SiteConfig":
    from oracles.config import load_site

    return load_site(path)


def _set_state(config: Path, meter: str, change: Any) -> None:
    from offchain.store import open_store
    from oracles.clock import SystemClock
    from oracles.registration import Registration

    site = _load(config)
    found = [m.meter_id for m in site.meter if m.meter_id.hex().startswith(meter.removeprefix("0x").lower())]
    if len(found) != 1:
        raise DomainError(f"{len(found)} meters of this site begin with {meter}", hint="give more digits of its id")
    with open_store(site.store) as store:
        registration = Registration(store, "", dict.fromkeys(found), SystemClock())
        change(registration, found[0])
        note(f"{found[0].hex()}: {registration.state_of(found[0])}")


def _status(site: "SiteConfig") -> dict[str, Any]:
    from collections import Counter

    from offchain.domain.isp import isp_start
    from offchain.store import open_store
    from offchain.store.batches import batch_counts
    from offchain.store.database import file_of
    from offchain.store.devices import latest_steps
    from offchain.store.outbox import dead_letters, outbox_counts
    from offchain.store.readings import last_reading, load_rejections

    file = file_of(site.store)
    if file is not None and not file.exists():
        raise PermanentError(f"store {site.store}: no such file", hint="the site has not run yet")
    with open_store(site.store) as store, store.read() as connection:
        steps = latest_steps(connection)
        last = last_reading(connection)
        rejected: Counter[str] = Counter()
        for (_, reason), count in load_rejections(connection).items():
            rejected[reason] += count
        return {
            "site": site.name,
            "last_reading": None if last is None else isp_start(last + 1).isoformat(),
            "devices": {
                m.hex(): {"state": step.state, "detail": step.detail, "at": step.at} for m, step in steps.items()
            },
            "batches": {f"{kind} batches {status}": n for (kind, status), n in batch_counts(connection).items()},
            "outbox": {f"{topic.split(':')[0]} {state}": n for (topic, state), n in outbox_counts(connection).items()},
            "dead_letters": [letter.last_error for letter in dead_letters(connection)],
            "rejected": dict(rejected),
        }
