"""The command line: serve, init, token, actions, migrate.

Every setting is an option and an environment variable; the options are made from `rtm.settings`. What a person got
wrong is one line on stderr and exit status 2.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import rtm
from rtm.settings import Limits, Settings, SummaryEndpoint

_T = TypeVar("_T")

# Wide enough for the longest name of an environment variable.
_HELP_WIDTH = 100

app = typer.Typer(
    name="rtm",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"terminal_width": _HELP_WIDTH, "help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    print(f"rtm: {message}", file=sys.stderr)  # noqa: T201  what the operator has to read
    sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rtm {rtm.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A self-hosted live-chat server that speaks the LiveChat platform protocol.

    To try it: rtm serve --demo
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# Options that are settings

_GROUPS: dict[str, tuple[type[BaseModel], str]] = {"limits": (Limits, ""), "summary": (SummaryEndpoint, "summary_")}
"""Settings that hold others, and what the names of those begin with."""


def _option(name: str, field: FieldInfo, envvar: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    shown = "none" if field.default is None else "off" if field.default is False else True
    option = typer.Option(flag, help=field.description, envvar=envvar, show_default=shown)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[field.rebuild_annotation(), option],
    )


def _options(names: tuple[str, ...]) -> list[inspect.Parameter]:
    top = {name: field for name, field in Settings.model_fields.items() if name not in _GROUPS}
    return [
        *(_option(name, field, f"RTM_{name.upper()}") for name, field in top.items() if not names or name in names),
        *(
            _option(prefix + name, field, f"RTM_{group.upper()}__{name.upper()}")
            for group, (model, prefix) in ({} if names else _GROUPS).items()
            for name, field in model.model_fields.items()
        ),
    ]


def _settings(given: dict[str, Any]) -> Settings:
    groups = {
        group: {name: given.pop(prefix + name) for name in model.model_fields if prefix + name in given}
        for group, (model, prefix) in _GROUPS.items()
    }
    try:
        return Settings.model_validate({**given, **groups})
    except ValidationError as error:
        first = error.errors()[0]
        name = _name(*map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        _fail(f"{name}: {reason}" if name else reason)


def _name(group: str = "", name: str = "", *_: str) -> str:
    """A setting as people know it: its flag, or the variable if it has none; nothing for several at once."""
    if group not in _GROUPS:
        group, name = "", group
    model, prefix = _GROUPS.get(group, (Settings, ""))
    if name and name not in model.model_fields:
        return f"RTM_{group}__{name}".upper()
    return name and f"--{prefix}{name}".replace("_", "-")


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these settings, or for all, and hand it the result as `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in inspect.signature(command).parameters.values() if each.name != "settings"]
        settings_options = _options(names)
        taken = {option.name for option in settings_options}

        @wraps(command)
        def run(**values: Any) -> None:
            given = {name: value for name, value in values.items() if name in taken}
            rest = {name: value for name, value in values.items() if name not in taken}
            command(settings=_settings(given), **rest)

        run.__signature__ = inspect.Signature([*own, *settings_options])  # type: ignore[attr-defined]
        return run

    return decorate


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Do what a command asks of the database."""
    from rtm.administration import Refused
    from rtm.store.database import DatabaseError

    try:
        return asyncio.run(work)
    except (Refused, DatabaseError) as error:
        _fail(str(error))


def _show(told: dict[str, Any]) -> None:
    width = max(map(len, told))
    for name, value in told.items():
        typer.echo(f"{name:<{width}}  {value}")


# Commands


@app.command()
@takes_settings()
def serve(settings: Settings) -> None:
    """Serve the Web API and the sockets on one port.

    An SQLite database is created, or brought up to date, at the start. A PostgreSQL database is refused until `rtm
    migrate` has been run on it; only --demo creates the tables in a database that has none.

    Every option can be given by its environment variable; a flag wins over it.

    Those from --message-size-bytes to --logins-per-minute are limits: 0 turns one off.
    """
    from rtm.server import StartError
    from rtm.server import serve as serve_until_stopped
    from rtm.store.database import DatabaseError
    from rtm.tls import CertificateError

    try:
        serve_until_stopped(settings)
    except (StartError, DatabaseError, CertificateError) as error:
        _fail(str(error))


@app.command()
@takes_settings("data_dir", "database_url")
def migrate(settings: Settings) -> None:
    """Create the tables of the database, or bring them up to date; those of an SQLite file while no server uses it."""
    from rtm import administration

    _run(administration.migrate(settings))
    typer.echo("The database is up to date.")


@app.command()
@takes_settings("data_dir", "database_url", "region")
def init(
    settings: Settings,
    owner: Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address of the license's owner.")],
    name: Annotated[str, typer.Option(help="The owner's name.")] = "Owner",
    group: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A group besides General; may be repeated.")
    ] = None,
) -> None:
    """Create a license with its owner and groups, and print its ids and the owner's personal access token, once.

    The tables are created in a database that has none.
    """
    from rtm import administration

    _show(_run(administration.init(settings, owner=owner, name=name, groups=group or [])))


@app.command()
@takes_settings("data_dir", "database_url", "region")
def token(
    settings: Settings,
    agent: Annotated[
        str | None, typer.Argument(metavar="AGENT", help="The agent's e-mail or account id, or a bot's id.")
    ] = None,
    license_id: Annotated[
        int | None,
        typer.Option("--license", metavar="ID", help="License of the agent, where several have one of that e-mail."),
    ] = None,
    kind: Annotated[
        Literal["personal", "access", "bot"] | None,
        typer.Option(
            help="A personal access token does not expire of itself.", show_default="access, or bot for a bot"
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="A scope of the token; may be repeated.", show_default="all of the role"),
    ] = None,
    lifetime: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=1, help="Seconds until it expires.", show_default="none")
    ] = None,
    revoke: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Revoke this token, or the one of this id, instead.")
    ] = None,
) -> None:
    """Mint a token for an agent or a bot and print it, once; or revoke one.

    A server that is running ends the sockets of a revoked token within a second.
    """
    from rtm import administration

    if revoke is not None:
        _run(administration.revoke(settings, revoke))
        typer.echo("The token is revoked.")
        return
    if agent is None:
        _fail("expected an agent, or --revoke")
    wanted = administration.Wanted(agent, license_id, kind, scope, lifetime)
    _show(_run(administration.token(settings, wanted)))


@app.command()
def actions(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list with the parameters of each action.")] = False,
) -> None:
    """List what the API serves: every action with its version, transport and scopes.

    A program that reads it is given a line for each action: its name, versions, transports and scopes, between tabs.
    """
    from rtm.actions.registry import listing

    rows = listing()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not sys.stdout.isatty():
        for line in _lines(rows):
            typer.echo(line)
        return
    from rich.console import Console
    from rich.table import Table

    columns = ("api", "version", "transport", "action", "scopes")
    table = Table(*columns)
    for row in rows:
        table.add_row(*(" ".join(row[column]) if column == "scopes" else row[column] for column in columns))
    Console().print(table)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for name, of_it in groupby(rows, itemgetter("action")):
        found = list(of_it)
        versions, transports = (" ".join(dict.fromkeys(row[of] for row in found)) for of in ("version", "transport"))
        yield "\t".join((name, versions, transports, " ".join(found[0]["scopes"])))
