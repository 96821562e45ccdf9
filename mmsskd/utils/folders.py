"""Files below folders, links to folders followed, each real folder once."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import some


def walk_files(tops: Sequence[str | Path]) -> tuple[list[list[str]], list[str]]:
    """Find all files below each of ``tops``, at any depth.

    Links to folders are followed, but no folder is walked twice, whatever number of links lead to it, and none that holds the link
    itself: ``ln -s .. people/bert/loop`` would make a person of everybody. Folders that are no links come first, so they keep
    their files; a link gives those that nothing else has given.

    Args:
        tops: Folders, of which any may be a link.

    Returns:
        The paths below each top, sorted. And, sorted, the links and folders that were left out: their content is there already,
        or they cannot be read.
    """
    found: list[list[str]] = [[] for _ in tops]
    walked: set[str] = set()
    left_out: list[str] = []
    waiting = sorted(((os.path.islink(top), place, str(top)) for place, top in enumerate(tops)))
    for link, place, start in waiting:  # which grows by the links that are met
        real = os.path.realpath(start)
        here = os.path.join(os.path.realpath(os.path.dirname(start) or '.'), '')
        if link and here.startswith(os.path.join(real, '')):
            left_out.append(start)
            continue
        for folder, inner, names in os.walk(start, onerror=lambda error: left_out.append(error.filename)):
            true = os.path.normpath(os.path.join(real, os.path.relpath(folder, start)))
            if true in walked:
                left_out.append(folder)
                inner.clear()
                continue
            walked.add(true)
            found[place].extend(os.path.join(folder, name) for name in names)
            paths = (os.path.join(folder, name) for name in sorted(inner))
            waiting.extend((True, place, path) for path in paths if os.path.islink(path))
    return [sorted(files) for files in found], sorted(left_out)


def describe_left_out(left_out: Sequence[str]) -> str:
    """Describe the folders that ``walk_files`` left out."""
    return (
        f'left out {len(left_out)} folder{"s" * (len(left_out) > 1)}: {some(map(repr, left_out))}; links lead to what is here '
        'already, or it cannot be read'
    )
