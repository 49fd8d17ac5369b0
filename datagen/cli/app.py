"""All commands, and the way from an error to an exit code: 0 done, 1 failed, 2 usage."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from datagen.cli import (
    backup,
    config,
    datasets,
    db,
    demo,
    doctor,
    examples,
    exports,
    figures,
    generate,
    jobs,
    keys,
    models,
    pipelines,
    reports,
    servers,
    train,
    webhooks,
)
from datagen.cli.output import DONE, FAILED, USAGE, exit_code, print_error
from datagen.errors import DatagenError, MalformedRequest

INTERRUPTED = 130
# Click's root of errors, wherever this version of Typer keeps Click.
_CLICK_ERROR: type[Any] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="datagen",
    help="Labelled synthetic images, generated as a service.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage.",
    add_completion=True,
    pretty_exceptions_enable=False,
    # Plain help starts twice as fast as the framed one.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import datagen  # noqa: PLC0415 - reads the installed package's metadata

        typer.echo(f"datagen {datagen.__version__}")
        raise typer.Exit


def _use_profile(name: str | None) -> None:
    if name is not None:
        # Settings are read from the environment, wherever a command needs them.
        os.environ["DATAGEN_PROFILE"] = name


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    _profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            callback=_use_profile,
            is_eager=True,
            help="Talk to this server of `datagen config`.",
        ),
    ] = None,
) -> None:
    _help_without_command(context)


def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


app.command("demo")(demo.demo)
app.command("up")(servers.up)
app.command("sign-in")(servers.sign_in)
app.command("generate")(generate.generate)
app.command("train")(train.train)
app.command("report")(reports.report)
app.command("verify")(exports.verify)
app.command("doctor")(doctor.doctor)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("api")(servers.api)
app.command("worker")(servers.worker)
app.command("beat")(servers.beat)
models.group.command("report")(figures.report)
_GROUPS = (
    jobs.group,
    datasets.group,
    exports.group,
    models.group,
    keys.group,
    pipelines.group,
    webhooks.group,
    config.group,
    db.group,
)
for _group in _GROUPS:
    _group.callback(invoke_without_command=True)(_help_without_command)
    examples.attach(_group.registered_commands, str(_group.info.name))
    app.add_typer(_group)
examples.attach(app.registered_commands)


def run() -> NoReturn:
    """Run the command, print its error if there is one, and exit."""
    sys.exit(_code())


def _code() -> int:
    as_json = "--json" in sys.argv
    try:
        returned = app(standalone_mode=False)
    except DatagenError as error:
        print_error(error, as_json=as_json)
        return exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except _CLICK_ERROR as error:
        print_error(MalformedRequest(_usage_sentence(error)), as_json=as_json)
        return int(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone; what is buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        print_error(DatagenError(_surprise(error)), as_json=as_json)
        return FAILED
    return returned if isinstance(returned, int) else DONE


def _usage_sentence(error: Any) -> str:
    path = error.ctx.command_path if getattr(error, "ctx", None) else app.info.name
    return f"{error.format_message()} (See `{path} --help`.)"


def _surprise(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error}. This should not happen; "
        "PYTHONDEVMODE=1 shows where it does."
    )
