"""Tables as plain text."""

from collections.abc import Sequence

from .labels import one_line


def text_table(rows: Sequence[Sequence[str]], align: str = '<>') -> str:
    """Rows as lines with aligned columns.

    Args:
        rows: Cells, the header included.
        align: ``'<'`` or ``'>'`` for each column; the last one also for those that follow.

    Example:
        >>> print(text_table([['stage', 'ms'], ['layer1', '12'], ['layer2', '9']]))
        stage   ms
        layer1  12
        layer2   9
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    count = len(rows[0])
    sides = align[:count] + align[-1] * (count - len(align))
    widths = [max(len(row[i]) for row in rows) for i in range(count)]
    rows = [[f'{cell:{side}{width}}' for cell, side, width in zip(row, sides, widths)] for row in rows]
    return '\n'.join('  '.join(row).rstrip() for row in rows)
