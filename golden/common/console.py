"""What every command line of Driftless shares: one-sentence errors, tables and progress."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
import rich.console
import rich.progress
import rich.table

from golden.common import names

_T = TypeVar("_T")


class UserError(click.ClickException):
    """Bad input: printed as one sentence on standard error, exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the sentence alone."""
        click.echo(f"Error: {self.format_message()}", file=file, err=file is None)


class Group(click.Group):
    """A command group in which unknown names suggest the closest, and bad values end in one sentence and code 2.

    `TypeError`, `ValueError` and `OSError` raised by a command are bad input: constructors and readers
    raise them with a sentence that names the argument, the rule and the value.
    """

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggest the closest command instead of a bare refusal."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise UserError(names.unknown("Command", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a command, print the help."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; bad input becomes `UserError`."""
        try:
            return super().invoke(ctx)
        except (TypeError, ValueError, OSError) as error:
            if ctx.find_root().params.get("traceback"):
                raise
            raise UserError(_sentence(error)) from error

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Usage errors are one sentence too."""
        if kwargs.get("standalone_mode") is False:
            return super().main(*args, **kwargs)
        kwargs["standalone_mode"] = False
        try:
            result = super().main(*args, **kwargs)
        except click.UsageError as error:
            UserError(error.format_message()).show()
            raise SystemExit(2) from None
        except click.ClickException as error:
            error.show()
            raise SystemExit(error.exit_code) from None
        except click.Abort:
            click.echo("Aborted.", err=True)
            raise SystemExit(130) from None
        raise SystemExit(result if isinstance(result, int) else 0)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:  # of the system, which writes "[Errno 2] ..."
        return f"File must be accessible, not {str(error.filename)!r}: {error.strerror.lower()}"
    return str(error) or type(error).__name__


def group(help: str) -> Callable[[Callable[..., Any]], Group]:
    """Decorate the root of a command line.

    Parameters
    ----------
    help : str
        What ``--help`` says first.
    """

    def decorate(function: Callable[..., Any]) -> Group:
        command = click.group(cls=Group, help=help, context_settings={"help_option_names": ["-h", "--help"]})(function)
        return click.option("--traceback", is_flag=True, help="Show where in the code an error was raised.")(command)

    return decorate


def show(rows: Sequence[Mapping[str, Any]], *, title: str = "", as_json: bool = False) -> None:
    """Print rows (mappings with the same keys) as a table, or as a JSON list on standard output."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2))
        return
    table = rich.table.Table(title=title or None, title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = rich.console.Console()
    if not console.is_terminal:
        console = rich.console.Console(width=160)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def progress(items: Iterable[_T], description: str, total: int | None = None) -> Iterable[_T]:
    """Iterate with a progress bar on standard error; silent when that is not a terminal."""
    console = rich.console.Console(stderr=True)
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    return rich.progress.track(
        items, description=description, total=total, console=console, disable=not console.is_terminal, transient=True
    )
