"""The Dockerfile and its script, as far as that shows without a daemon."""

import os
import re
import subprocess

import pytest
from helpers import ROOT, environment

DOCKERFILE = (ROOT / 'docker/Dockerfile').read_text()


def test_what_it_copies_and_runs_is_there():
    copied = [word for line in re.findall(r'^COPY (.*) \S+$', DOCKERFILE, re.M) for word in line.split()]
    assert {'mmsskd', 'requirements', 'setup.py'} <= set(copied)
    for path in [*copied, 'tools/setup_env.sh']:
        assert (ROOT / path).exists(), path
    ignored = (ROOT / 'docker/Dockerfile.dockerignore').read_text().split()
    assert not set(copied) & set(ignored)
    read = (ROOT / 'setup.py').read_text() + (ROOT / 'MANIFEST.in').read_text() + (ROOT / 'Makefile').read_text()
    for name in ('README.md', 'LICENSE', 'requirements.txt', 'model-index.yml'):
        assert name in copied or name not in read, name


def test_its_cuda_is_that_of_torch():
    import torch

    (major, minor) = re.search(r'nvidia/cuda:(\d+)\.(\d+)\.\d+-devel', DOCKERFILE).groups()
    if torch.version.cuda is None:
        pytest.skip('torch without CUDA')
    assert f'{major}.{minor}' == torch.version.cuda


def test_the_script_builds_the_image_that_it_is_asked_for(tmp_path):
    """docker is a stand-in that shows what it gets."""
    (tmp_path / 'docker').write_text('#!/bin/bash\npwd; printf "%s\\n" "$@"\n')
    (tmp_path / 'docker').chmod(0o755)
    script = ROOT / 'docker/build.sh'
    assert os.access(script, os.X_OK)

    def build(*args, **env):
        env = environment(PATH=f'{tmp_path}:{os.environ["PATH"]}', **env)
        return subprocess.run([script, *args], env=env, capture_output=True, text=True, cwd=tmp_path)

    said = build('cuda', '--no-cache', TORCH_INDEX='somewhere').stdout.splitlines()
    assert said[0] == str(ROOT) and said[-1] == '.' and 'mmsskd:cuda' in said and '--no-cache' in said
    assert 'DEVICE=cuda' in said and 'TORCH_INDEX=somewhere' in said
    assert 'mmsskd:cpu' in build().stdout
    wrong = build('gpu')
    assert wrong.returncode == 1 and 'found gpu' in wrong.stderr
