"""What every command line of Driftless shares: one-sentence errors, tables and progress."""

import contextlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click
import rich.console
import rich.progress
import rich.table
import rich.text

from golden.common import extras, names, start

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
        except ModuleNotFoundError as error:
            if extras.missing(error) is None:
                raise
            raise UserError(extras.missing(error)) from error

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Usage errors are one sentence too."""
        start.take_interrupts()
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


def finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Callback of an option that is a number: refuse NaN and infinities, which no range does."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.", ctx, param)
    return value


def show(rows: Sequence[Mapping[str, Any]], *, title: str = "", as_json: bool = False) -> None:
    """Print rows (mappings with the same keys) as a table, or as a JSON list on standard output.

    A line is as wide as the terminal, or ``COLUMNS``, or 160. Words wrap at spaces and numbers never break: columns
    that do not fit follow below, beside the first columns again.
    """
    if as_json:
        click.echo(json.dumps(list(rows), indent=2))
        return
    console = rich.console.Console()
    width = console.width if console.is_terminal or os.environ.get("COLUMNS", "").isdigit() else 160
    console = rich.console.Console(width=width, highlight=False)
    if title:
        console.print("\n".join(_wrap(title, width)), style="italic", markup=False)
    columns = [_Column(key, rows) for key in dict.fromkeys(key for row in rows for key in row)]
    for part in _parts(columns, width):
        room = width - _frame(part)
        table = rich.table.Table()
        for column, size in zip(part, _sizes(part, room), strict=True):
            justify: Any = "right" if column.numeric else "left"
            table.add_column("\n".join(_wrap(column.head, size, 0)), width=size, justify=justify, no_wrap=True)
            column.wrapped = ["\n".join(_wrap(cell, size)) for cell in column.cells]
        for cells in zip(*(column.wrapped for column in part), strict=True):
            table.add_row(*map(rich.text.Text, cells))
        console.print(table)


class _Column:
    """A column of a table: its head and its cells as they are printed."""

    def __init__(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        values = [row.get(key) for row in rows]
        self.head = key
        self.numeric = all(isinstance(value, int | float | None) for value in values)
        self.cells = [_cell(value) for value in values]
        self.wrapped: list[str] = []
        self.most = max(map(len, (key, *self.cells)))
        pieces = [piece for word in key.split() for piece in _pieces(word, 0)]
        pieces += [piece for cell in self.cells for word in cell.split() for piece in _pieces(word)]
        self.least = max(map(len, pieces), default=0)


def _parts(columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """Columns of each table: one if all fit into the width, else several that begin with those that tell rows apart.

    Of these, the first ones that are words, stay as many as leave room for the widest of the others.
    """
    leading = list(itertools.takewhile(lambda column: not column.numeric, columns[:-1]))
    for count in range(1, len(leading)):
        if len(set(zip(*(column.cells for column in leading[:count]), strict=True))) == len(leading[0].cells):
            leading = leading[:count]
            break
    others = columns[len(leading) :]
    while leading and any(_least([*leading, column]) > width for column in others):
        others = [leading.pop(), *others]
    parts = [list(leading)]
    for column in others:
        if len(parts[-1]) > len(leading) and _least([*parts[-1], column]) > width:
            parts.append(list(leading))
        parts[-1].append(column)
    return parts


def _frame(columns: Sequence[_Column]) -> int:
    """Characters of a line that are borders."""
    return 3 * len(columns) + 1


def _least(columns: Sequence[_Column]) -> int:
    """Characters of a line in which no word is broken."""
    return _frame(columns) + sum(column.least for column in columns)


def _sizes(columns: Sequence[_Column], room: int) -> list[int]:
    """Widths of columns: what the longest word needs, and of what is left always one more to whom it is the narrowest.

    Only a single column that is wider than the room gets less than its longest word.
    """
    sizes = [min(column.least, room) for column in columns]
    for _ in range(room - sum(sizes)):
        wanting = [i for i, column in enumerate(columns) if sizes[i] < column.most]
        if not wanting:
            break
        sizes[min(wanting, key=lambda i: sizes[i] / columns[i].most)] += 1
    return sizes


_WHOLE = 30
"""Letters up to which a name or a path stays whole."""


def _pieces(word: str, whole: int = _WHOLE) -> list[str]:
    """What is not to be broken: a word; one longer than `whole` may go on behind a ``_`` or ``/`` between names."""
    return re.split(r"(?<=[A-Za-z0-9][_/])(?=[A-Za-z])", word) if len(word) > whole else [word]


def _wrap(text: str, width: int, whole: int = _WHOLE) -> list[str]:
    """Lines of a text; a piece that is longer than a line by itself is cut, without which its end would be lost."""
    lines = [""]
    for word in text.split():
        gap = " " if lines[-1] else ""
        if len(lines[-1]) + len(gap) + len(word) > width and lines[-1]:
            lines.append("")
            gap = ""
        for piece in _pieces(word, min(whole, width)):
            if len(lines[-1]) + len(gap) + len(piece) > width and lines[-1]:
                lines.append("")
                gap = ""
            while len(piece) > width:
                lines[-1], piece = piece[:width], piece[width:]
                lines.append("")
            lines[-1] += gap + piece
            gap = ""
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:.0f}"
    return str(value)


def progress(
    items: Iterable[_T], description: str, total: int | None = None, *, named: Callable[[_T], str] | None = None
) -> Iterator[_T]:
    """Iterate with a progress bar on standard error: done and to do, and the time left; silent off a terminal.

    Parameters
    ----------
    items : iterable
        What is passed on.
    description : str
        What is done.
    total : int, optional
        Number of items, where they do not tell.
    named : callable, optional
        Name of an item, which stands behind the description once it is there.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with _bar() as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            if named is not None:
                bar.update(task, description=f"{description}: {named(item)}")
            yield item
            bar.advance(task)


@contextlib.contextmanager
def advancing(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar for work that tells of itself: each call moves it on by one."""
    with _bar() as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


def _bar() -> rich.progress.Progress:
    """A bar on standard error; silent when that is not a terminal."""
    console = rich.console.Console(stderr=True)
    columns = (rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn())
    columns += (rich.progress.MofNCompleteColumn(), rich.progress.TimeRemainingColumn())
    return rich.progress.Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
