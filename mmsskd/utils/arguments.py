"""The command line of every tool: what its help says, and what a wrong argument is told. Needs no torch."""

import argparse
import re
import shutil
import sys
import textwrap
from pathlib import Path

WIDEST = 120  # characters in a line of help, however wide the terminal


class ToolParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` with a description folded to the terminal, an example, and errors of one message.

    Args:
        doc: The tool's docstring: a line that says what it does, paragraphs, and lists of ``  name  what it is``.
        example: A command that works, or several lines.
        options: Those of ``ArgumentParser``.

    Example:
        >>> parser = ToolParser('Train a config.', 'python tools/train.py CONFIG')
        >>> print(parser.epilog)
        example:
          python tools/train.py CONFIG
    """

    def __init__(self, doc: str, example: str, **options):
        self.example = example
        width = min(shutil.get_terminal_size().columns, WIDEST)
        super().__init__(
            description='\n\n'.join(_folded(paragraph, width - 2) for paragraph in doc.strip().split('\n\n')),
            epilog='example:\n' + textwrap.indent(example, '  '),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=width - 2),
            **options,
        )

    def number(self, name: str, what: str, default: int | None = None) -> None:
        """Add an option that is a whole number; ``what`` it is, and without a default what is done then."""
        what += '' if default is None else '; default: %(default)s'
        self.add_argument(name, type=int, default=default, metavar='N', help=what)

    def folder(self, name: str, what: str, default: str) -> None:
        """Add an option that is the folder for ``what``, as a path."""
        what = f'folder for {what}; default: %(default)s'
        self.add_argument(name, type=Path, default=Path(default), metavar='DIR', help=what)

    def error(self, message: str):
        """Say what is wrong, an example, and where there is more; exit code 2."""
        print(f'error: {message}\n{self.epilog}\n{self.prog} --help lists all arguments', file=sys.stderr)
        sys.exit(2)


def _folded(paragraph: str, width: int) -> str:
    """A paragraph, or a list whose lines begin with two spaces, a name, two spaces or more, and what it is."""
    items = re.split(r'\n(?=  \S)', '\n' + paragraph)[1:]
    if not items:
        return textwrap.fill(' '.join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)
    pairs = [re.split(r' {2,}', item.strip(), maxsplit=1) for item in items]
    longest = max(len(name) for name, _ in pairs)
    return '\n'.join(
        textwrap.fill(
            ' '.join(text.split()), width, initial_indent=f'  {name:{longest}}  ', subsequent_indent=' ' * (longest + 4)
        )
        for name, text in pairs
    )
