"""Hooks of mkdocs: README, changelog and notebook are pages of the site, and links to files of the checkout are their names."""

import json
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {'index.md': 'README.md', 'changelog.md': 'CHANGELOG.md'}


def on_files(files, config):
    """Add the pages that lie in the root of the checkout."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text().replace('](docs/', '](')
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, 'quickstart.md', content=notebook(ROOT / 'docs/quickstart.ipynb')))
    return files


def notebook(path: Path) -> str:
    """The cells of a notebook as a page."""
    cells = [(cell['cell_type'], ''.join(cell['source'])) for cell in json.loads(path.read_text())['cells']]
    return '\n\n'.join(f'```python\n{text}\n```' if kind == 'code' else text for kind, text in cells)


def on_page_markdown(markdown, page, **_):
    """Turn links to files outside the docs into the names of the files, which a reader finds in the checkout."""
    folder = ROOT if page.file.src_uri in PAGES else ROOT / 'docs'

    def named(match):
        text, target = match.groups()
        if re.match(r'https?:|#', target) or (ROOT / 'docs' / target.partition('#')[0]).exists() or target in PAGES:
            return match[0]
        path = (folder / target.partition('#')[0]).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]  # mkdocs says that it is broken
        name = path.relative_to(ROOT).as_posix()
        if name in PAGES.values():
            return f'[{text}]({next(page for page, source in PAGES.items() if source == name)})'
        return f'`{name}`' if text in (name, path.name) else f'{text} (`{name}`)'

    return re.sub(r'(?<!!)\[([^\]]+)\]\(([^)\s]+)\)', named, markdown)
