"""``gridpact``: one tool with sub-commands. What a command needs is imported when it runs, so that help is quick."""

import signal
import sys
from typing import Annotated, Any

import typer

from offchain.cli import (
    audit,
    baseline,
    chain,
    cluster,
    deploy,
    flexibility,
    forecast,
    market,
    oracle,
    pilot,
    profile,
    store,
)
from offchain.domain.errors import FlexError

UNEXPECTED = 70
"""Exit code of an error that nobody raised on purpose."""

app = typer.Typer(
    name="gridpact",
    help="Flexibility and energy markets for distribution grids.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(deploy.deploy)
app.add_typer(chain.app, name="chain")
app.add_typer(market.app, name="market")
app.command()(pilot.pilot)
app.command()(audit.audit)
app.add_typer(oracle.app, name="oracle")
app.add_typer(store.app, name="store")
app.add_typer(baseline.app, name="baseline")
app.add_typer(forecast.app, name="forecast")
app.add_typer(profile.app, name="profile")
app.add_typer(cluster.app, name="cluster")
app.command()(flexibility.flexibility)


class _Mode:
    debug = False


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _Mode.debug = debug


def interrupt(*_: object) -> None:
    """Handler of Ctrl-C.

    A handler of our own keeps `asyncio.run` from cancelling its task instead: `asyncio.wait_for` of Python 3.11 loses a
    cancellation that comes together with the result it waits for, and the command would go on.
    """
    raise KeyboardInterrupt


def app_main() -> None:
    """Entry point: every error is one line and a hint on stderr, with an exit code that scripts can use."""
    signal.signal(signal.SIGINT, interrupt)
    try:
        sys.exit(app(standalone_mode=False))
    except FlexError as exc:
        _fail(exc.message, exc.hint, exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except typer.Abort:  # a question answered with no
        _fail("nothing was done", "", 1)
    except Exception as exc:
        # Usage errors are click's, whose place in typer changes with its versions.
        if hasattr(exc, "format_message"):
            _usage(exc)
        what = " ".join(str(exc).split()) or "no message"
        _fail(f"unexpected {type(exc).__name__}: {what}", "run `gridpact --debug ...` and report it", UNEXPECTED)


def _usage(exc: Any) -> None:
    """Options that do not fit the command; nothing given at all shows the help."""
    if type(exc).__name__ == "NoArgsIsHelpError":
        exc.show()
        sys.exit(exc.exit_code)
    command = exc.ctx.command_path if exc.ctx else "gridpact"
    _fail(exc.format_message().rstrip("."), f"see `{command} --help`", exc.exit_code)


def _fail(message: str, hint: str, code: int) -> None:
    if _Mode.debug:
        raise
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    app_main()
