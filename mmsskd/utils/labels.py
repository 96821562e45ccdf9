"""Names of classes, arms, stages and models, which may have any character, made fit for where they are shown. Needs no torch."""

import re


def one_line(text: object) -> str:
    """The text on one line: what cannot be printed, line breaks and halves of characters too, as Python escapes it.

    Example:
        >>> one_line('cat\\tdog \\udc80 犬')
        'cat\\\\tdog \\\\udc80 犬'
    """
    return ''.join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(text))


def in_figure(text: object) -> str:
    """The text as a label of a figure: matplotlib takes what is between two ``$`` for a formula, and hides what begins with ``_``.

    Example:
        >>> in_figure('_$x^$')
        ' _\\\\$x^\\\\$'
    """
    text = one_line(text).replace('$', r'\$')
    return f' {text}' if text.startswith('_') else text


def in_markdown(text: object) -> str:
    """The text as a cell of a Markdown table, with no sign that means something there.

    Example:
        >>> in_markdown('a_b|$c')
        'a\\\\_b\\\\|\\\\$c'
    """
    return re.sub(r'([\\`*_$|~<>&\[\]#])', r'\\\1', one_line(text))
