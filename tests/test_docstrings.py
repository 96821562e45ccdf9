"""Docstrings: the examples in them run, each public class has one, and first lines say what a thing is or does."""

import ast
import doctest
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for path in (ROOT / 'mmsskd').rglob('*.py') if path.relative_to(ROOT).parts[1] != 'configs'
)  # those are read by MMEngine, not imported
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))
INTERNAL_BUT_READ = {'Phase', 'Pairing', 'Plan'}  # their fields are keys of configs
RIDDLES = re.compile(r'(What|Where|How|Why|Which|When|As usual)\b')


@cache
def _nodes(path: Path) -> list[tuple[ast.AST, str | None]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node, ast.get_docstring(node)) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)
    ]


def _module(path: Path) -> str:
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


def _public_classes(path: Path) -> list[ast.ClassDef]:
    """Classes that a user names: registered, exported by their package, or read as a part of a config."""
    package = (path.parent / '__init__.py').read_text()
    exported = set(re.findall(r"'(\w+)'", package.partition('__all__ = [')[2]))
    return [
        node
        for node, _ in _nodes(path)
        if isinstance(node, ast.ClassDef)
        and (
            any('register_module' in ast.unparse(decorator) for decorator in node.decorator_list)
            or node.name in exported | INTERNAL_BUT_READ
        )
    ]


@pytest.mark.parametrize(
    'path',
    [path for path in FILES if '>>> ' in path.read_text()],
    ids=lambda path: _module(path).removeprefix('mmsskd.'),
)
def test_examples_run(path):
    module = import_module(_module(path))
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')  # it writes to stdout, which an example would have to say
    try:
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    finally:
        logger.setLevel(level)
    assert result.attempted and not result.failed


def test_each_public_class_has_an_example():
    classes = {node.name: ast.get_docstring(node) or '' for path in FILES for node in _public_classes(path)}
    assert {'StagewiseDistiller', 'StageScheduleHook', 'FaceMetric', 'Digits'} | INTERNAL_BUT_READ <= set(classes)
    without = [name for name, text in classes.items() if not re.search(r'^Example:\n +>>> ', text, re.MULTILINE)]
    assert not without, f'no runnable `Example:` in the docstrings of {without}'


def test_few_examples_are_skipped():
    """A skipped example is only for what needs data that is not there."""
    assert sum(path.read_text().count('doctest: +SKIP') for path in FILES) <= 3


def test_first_lines_are_imperatives_or_noun_phrases():
    """No riddles: "Find the logits" or "Place of the logits" says more than "Where the logits are"."""
    riddles = [
        f'{path.relative_to(ROOT)}: {text.splitlines()[0]}'
        for path in (*FILES, *TOOLS)
        for _, text in _nodes(path)
        if text and RIDDLES.match(text)
    ]
    assert not riddles
