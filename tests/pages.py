"""Checks of a page that one of our tools wrote: by its HTML, and in a headless Chromium where one is at hand."""

import importlib.util
import os
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

VOID = {'meta', 'br', 'hr', 'img', 'link', 'input'}
CHROME = os.environ.get('CHROME_PATH') or next(
    filter(None, map(shutil.which, ('chromium', 'chromium-headless-shell', 'google-chrome'))), None
)
AXE = os.environ.get('AXE_PATH')  # axe.min.js of the npm package axe-core
PLAYWRIGHT = importlib.util.find_spec('playwright')
BROWSER = bool(CHROME and AXE and PLAYWRIGHT)
WIDTHS = 400, 1280  # of a phone and of a desktop, in pixels


class Elements(HTMLParser):
    """(tag, attributes, tags that it is in) of each element of a page, in order."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.open, self.classes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.found.append((tag, attributes, tuple(self.classes)))
        if tag not in VOID:
            self.open.append(tag)
            self.classes.append(attributes.get('class', tag))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes), tuple(self.classes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f'</{tag}> closes another element'
        self.classes.pop()


def check_page(path: Path) -> None:
    check_html(path.read_text(encoding='utf-8'))
    if BROWSER:
        faults = faults_in_browser([path])
        assert not faults, '\n'.join(faults)


def check_html(text: str) -> None:
    """What a phone, a dark screen and a person who does not see the page need of it."""
    page = Elements(text)
    by_tag = {tag: [attributes for name, attributes, _ in page.found if name == tag] for tag, *_ in page.found}
    assert by_tag['html'] == [{'lang': 'en'}] and len(by_tag['h1']) == len(by_tag['main']) == 1
    assert {'name': 'viewport', 'content': 'width=device-width, initial-scale=1'} in by_tag['meta']
    assert 'prefers-color-scheme: dark' in text and text.count('<h1') <= 1
    assert all(len(attributes.get('aria-label', '')) > 10 for attributes in by_tag.get('svg', ())), (
        'a figure without text'
    )
    assert all(attributes.get('role') == 'img' for attributes in by_tag.get('svg', ()))
    assert all(attributes.get('scope') in ('row', 'col') for attributes in by_tag.get('th', ()))
    for tag, _, within in page.found:
        assert tag not in ('table', 'svg') or 'wide' in within, f'a {tag} that may be cut at the edge of the screen'
    ids = [attributes['id'] for _, attributes, _ in page.found if 'id' in attributes]
    assert not [name for name, count in Counter(ids).items() if count > 1], 'two elements of one id'
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids), 'a link to nowhere'
    assert '#000000' not in text, 'black on a dark screen'


def faults_in_browser(paths: list[Path]) -> list[str]:
    """What a Chromium finds wrong with pages, on a phone and on a desktop, light and dark."""
    from playwright.sync_api import sync_playwright

    faults = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROME, args=['--no-sandbox'])
        for width, scheme, path in product(WIDTHS, ('light', 'dark'), paths):
            page = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
            faults += [f'{path.name}, {width} pixels, {scheme}: {fault}' for fault in _faults(page, path, width)]
            page.close()
        browser.close()
    return faults


def _faults(page, path: Path, width: int) -> list[str]:
    faults = []
    page.on('console', lambda message: faults.append(message.text) if message.type == 'error' else None)
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.goto(path.as_uri())
    needed = page.evaluate('document.documentElement.scrollWidth')
    if needed > width:
        faults.append(f'it is {needed} pixels wide')
    page.add_script_tag(path=AXE)
    page.evaluate(
        'document.querySelectorAll("svg").forEach(svg => svg.replaceChildren())'
    )  # one image each; thousands of paths
    for found in page.evaluate('axe.run({preload: false})')['violations']:
        if found['impact'] in ('serious', 'critical'):
            faults.append(f'{found["id"]}: {found["help"]}: {[node["html"][:200] for node in found["nodes"][:3]]}')
    return faults
