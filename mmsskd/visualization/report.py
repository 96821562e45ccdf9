"""A page that needs nothing beside itself: text, tables, and figures as inline SVG."""

import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ..utils.files import write_text
from ..utils.labels import one_line

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; }
td:not(:first-child), th:not(:first-child) { text-align: right; } h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; }
svg { max-width: 100%; height: auto; } p { max-width: 46rem; }
"""


class Report:
    """Collects sections and writes them as one HTML file.

    Args:
        title: Heading of the page.
    """

    def __init__(self, title: str):
        self.title = title
        self.parts: list[str] = []

    def text(self, text: str) -> None:
        self.parts.append(f'<p>{_escaped(text)}</p>')

    def heading(self, text: str) -> None:
        self.parts.append(f'<h2>{_escaped(text)}</h2>')

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        head = ''.join(f'<th>{_escaped(column)}</th>' for column in columns)
        body = ''.join('<tr>' + ''.join(f'<td>{_escaped(cell)}</td>' for cell in row) + '</tr>' for row in rows)
        self.parts.append(f'<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a figure and close it."""
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg')
        plt.close(figure)
        svg = buffer.getvalue()
        self.parts.append(f'<figure>{svg[svg.index("<svg") :]}<figcaption>{_escaped(caption)}</figcaption></figure>')

    def write(self, path: str | Path) -> None:
        """Write the page beside ``path`` and rename it."""
        title = _escaped(self.title)
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
            f'<body><h1>{title}</h1>{"".join(self.parts)}</body></html>'
        )
        write_text(path, page)


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
