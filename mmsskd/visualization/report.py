"""A page that needs nothing beside itself, on a phone and on a desktop, light and dark: text, tables, figures as inline SVG."""

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ..utils.files import write_text
from ..utils.labels import one_line

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1f2328; --soft: #57606a; --line: #d0d7de; --focus: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181d; --text: #e6e8eb; --soft: #a3acb6; --line: #3a414b; --focus: #6cb0ff; } }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; color: var(--text); background: var(--back); }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; } p { max-width: 46rem; } p, h1, h2, figcaption { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } figure { margin: 1.5rem 0; }
.wide { overflow-x: auto; margin: 1rem 0; } .wide:focus-visible { outline: 2px solid var(--focus); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .9rem; max-width: 46rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
td { white-space: nowrap; } .text { text-align: left; white-space: normal; }
thead th { vertical-align: bottom; } th:first-child { text-align: left; padding-left: 0; }
th[scope=row] { font-weight: 500; min-width: 6rem; position: sticky; left: 0; background: var(--back); }
@media (max-width: 40rem) { th, td { padding: .35rem .4rem; } h1 { font-size: 1.4rem; } }
svg { display: block; max-width: 100%; height: auto; fill: currentColor; }
"""
SMALLEST = 0.7  # to this part of its size a figure shrinks with the screen; then it scrolls, so that it can be read


class Report:
    """Collects sections and writes them as one HTML file.

    Args:
        title: Heading of the page.

    Example:
        >>> report = Report('Digits')
        >>> report.table('Test images', ['network', 'accuracy, %'], [['teacher', '98.16'], ['student', '97.82']])
        >>> '<th scope="row">student</th><td>97.82</td>' in report.page()
        True
    """

    def __init__(self, title: str):
        self.title = title
        self.parts: list[str] = []

    def text(self, text: str) -> None:
        self.parts.append(f'<p>{_escaped(text)}</p>')

    def heading(self, text: str) -> None:
        self.parts.append(f'<h2>{_escaped(text)}</h2>')

    def table(self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; the first cell of a row names the row."""
        self.parts.append(_table(caption, columns, rows))

    def figure(
        self, figure: Figure, caption: str, shows: str, columns: Sequence[str] = (), rows: Sequence[Sequence[str]] = ()
    ) -> None:
        """Add a figure and close it.

        Args:
            figure: Drawn on any background: what is black in it takes the color of the page's text.
            caption: Stands under it.
            shows: What a person is told who does not see it.
            columns, rows: Its numbers, as a table under it.
        """
        for axes in figure.axes:
            legend = axes.get_legend()
            if legend is not None:
                legend.set_frame_on(False)
        buffer, width = io.StringIO(), figure.get_figwidth()
        silent = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        figure.savefig(buffer, format='svg', transparent=True, metadata=silent)
        plt.close(figure)
        svg = buffer.getvalue().replace('#000000', 'currentColor')
        svg = re.sub(r'( id="|href="#|url\(#)', rf'\g<1>part{len(self.parts)}-', svg[svg.index('<svg') :])
        svg = svg.replace('<svg', f'<svg role="img" aria-label="{_escaped(shows)}"', 1)
        svg = svg.replace('<svg', f'<svg style="min-width: {SMALLEST * 96 * width:.0f}px"', 1)
        numbers = _table('In numbers', columns, rows) if rows else ''
        self.parts.append(
            f'<figure>{_wide("figure", svg)}<figcaption>{_escaped(caption)}</figcaption></figure>{numbers}'
        )

    def page(self) -> str:
        """The page as HTML."""
        title = _escaped(self.title)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
            f'<body><main><h1>{title}</h1>{"".join(self.parts)}</main></body></html>'
        )

    def write(self, path: str | Path) -> None:
        """Write the page beside ``path`` and rename it."""
        write_text(path, self.page())


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    words = [not any(re.match(r'[-+\d]', row[place]) for row in rows) for place in range(len(columns))]
    kinds = [' class="text"' if place and text else '' for place, text in enumerate(words)]
    head = ''.join(f'<th scope="col"{kind}>{_escaped(name)}</th>' for kind, name in zip(kinds, columns, strict=True))
    body = ''.join(
        f'<tr><th scope="row">{_escaped(name)}</th>'
        f'{"".join(f"<td{kind}>{_escaped(cell)}</td>" for kind, cell in zip(kinds[1:], cells, strict=True))}</tr>'
        for name, *cells in rows
    )
    caption = f'<caption>{_escaped(caption)}</caption>'
    return _wide('table', f'<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _wide(kind: str, content: str) -> str:
    """A box that scrolls, by keyboard too, around what may be wider than a screen."""
    return f'<div class="wide" role="group" tabindex="0" aria-label="{kind}">{content}</div>'


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
