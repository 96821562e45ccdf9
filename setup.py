"""Packaging of mmsskd: ``pip install .``, ``pip install -e .`` and wheels.

The configs, tools and ``model-index.yml`` of the checkout travel inside the package under ``mmsskd/.mim``, where MMEngine
(``_base_ = 'mmsskd::...'``) and MIM look for them. They are symbolic links, so that an editable install never serves stale
configs; setuptools follows them when it builds a wheel or an sdist.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def link_mim_folder():
    """Put links to what MIM needs into ``mmsskd/.mim``; copies where links are not possible."""
    mim = ROOT / 'mmsskd' / '.mim'
    mim.mkdir(exist_ok=True)
    for name in ('configs', 'tools', 'model-index.yml'):
        source, target = ROOT / name, mim / name
        if not source.exists():  # an unpacked sdist: the files are already in place
            continue
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.is_dir():
            shutil.rmtree(target)
        try:
            target.symlink_to(os.path.relpath(source, mim))
        except OSError:
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def parse_requirements(name):
    """The requirement lines of ``requirements/<name>.txt``, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


link_mim_folder()
runtime, mim = parse_requirements('runtime'), parse_requirements('mminstall')
optional, tests = parse_requirements('optional'), parse_requirements('tests')
faces, onnx, docs = parse_requirements('faces'), parse_requirements('onnx'), parse_requirements('docs')

setup(
    name='mmsskd',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'mmsskd' / 'version.py').read_text())[1],
    description='Stage-by-stage knowledge distillation (arXiv 1812.01819) for MMEngine models',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='knowledge distillation, computer vision, object detection, image classification, face recognition',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=('mmsskd', 'mmsskd.*')),
    include_package_data=True,
    package_data={'mmsskd': ['py.typed']},
    python_requires='>=3.10',
    entry_points={'console_scripts': ['mmsskd = mmsskd.cli.distill:console']},
    # torch, mmengine, mmcv, mmdet and mmpretrain are not listed: upstream and fork install the same modules under different
    # names, and a hard requirement would put the second beside the first. mmsskd/__init__.py checks the versions at import.
    install_requires=runtime,
    extras_require={
        'mim': mim,
        'optional': optional,
        'faces': faces,
        'onnx': onnx,
        'docs': docs,
        'tests': tests,
        'all': mim + optional + faces + onnx + docs + tests,
    },
    zip_safe=False,
)
