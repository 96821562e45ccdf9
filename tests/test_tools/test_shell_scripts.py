"""The shell scripts that start several processes."""

import os
import re
import subprocess

import pytest
from helpers import ROOT, environment
from tool_helpers import TOOLS


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'setup_env.sh'])
def test_shell_scripts(script):
    assert subprocess.run(['bash', '-n', TOOLS / script]).returncode == 0
    assert os.access(TOOLS / script, os.X_OK)
    if script != 'setup_env.sh':
        result = subprocess.run(['bash', TOOLS / script], capture_output=True, text=True)
        assert result.returncode == 1 and f'tools/{script} ' in result.stderr


def test_the_check_on_a_gpu_knows_its_parts():
    script = ROOT / 'tests/gpu_check.sh'
    result = subprocess.run(['bash', script, 'captured', 'benchmarks'], capture_output=True, text=True)
    assert (
        result.returncode == 2
        and 'no part benchmarks; parts: captured, resume, benchmark, recipes, jobs, suite' in result.stderr
    )
    named = [word for word in script.read_text().split() if word.startswith('tests/') and word.endswith('.py')]
    assert len(named) == 6 and all((ROOT / name).is_file() for name in named)
    configs = set(re.findall(r'^ +benchmark (\w+) --', script.read_text(), re.MULTILINE))
    assert len(configs) == 8 and all((ROOT / f'configs/sskd/{name}.py').is_file() for name in configs)


@pytest.mark.parametrize(
    'script, files', [('dist_train.sh', ['a config.py']), ('dist_test.sh', ['a config.py', 'a file.pth'])]
)
def test_torchrun_gets_the_arguments(script, files, tmp_path):
    (tmp_path / 'python').write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'python').chmod(0o755)
    env = environment(PYTHON=str(tmp_path / 'python'), PORT='29999')
    command = ['bash', TOOLS / script, *files, '2', '--cfg-options', 'a=b c']
    arguments = subprocess.run(command, env=env, capture_output=True, text=True).stdout.splitlines()
    assert arguments[:2] == ['-m', 'torch.distributed.run']
    assert {'--nproc-per-node=2', '--master-port=29999'} <= set(arguments)
    assert arguments[-len(files) - 5 :] == [
        str(TOOLS / f'{script[5:-3]}.py'), *files, '--launcher', 'pytorch', '--cfg-options', 'a=b c',
    ]  # fmt: skip


def test_slurm_starts_torchrun_with_the_arguments(tmp_path):
    """srun and scontrol are stand-ins that show what they get."""
    for name, body in (
        ('srun', 'echo "$*" >&2; while [[ $1 == -* ]]; do [ "$1" = -p ] && shift; shift; done; exec "$@"'),
        ('scontrol', 'echo node7'),
    ):
        (tmp_path / name).write_text(f'#!/bin/bash\n{body}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'python').write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'python').chmod(0o755)
    env = environment(
        PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SLURM_JOB_ID='1', SLURM_JOB_NODELIST='x', PYTHON='python'
    )
    command = ['bash', TOOLS / 'slurm_train.sh', 'part', 'job', 'a config.py', 'work', '--cfg-options', 'a=b c']

    def start():
        return subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)

    result = start()
    assert result.returncode == 0 and '--signal=TERM@120' in result.stderr, result.stderr
    arguments = result.stdout.splitlines()
    assert arguments[:2] == ['-m', 'torch.distributed.run'] and '--nproc-per-node=4' in arguments
    assert '--rdzv-endpoint=node7:29500' in arguments
    assert arguments[-7:] == ['a config.py', '--work-dir', 'work', '--launcher', 'pytorch', '--cfg-options', 'a=b c']
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/iter_20.pth').touch()
    arguments = start().stdout.splitlines()
    assert arguments[-5:] == ['--launcher', 'pytorch', '--resume', '--cfg-options', 'a=b c']
