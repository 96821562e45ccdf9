"""What every tool does before its own work: read the config, start the processes."""

import os

import pytest
import torch
from helpers import ROOT, run_cfg, warm_python
from mmengine.config import Config
from tool_helpers import TOOLS, call, write

from mmsskd.cli import start_processes
from mmsskd.errors import ConfigError


def test_deterministic_kernels_have_what_cublas_needs(monkeypatch, capsys, tmp_path):
    """On a GPU torch raises at the first linear layer where the variable is not set."""
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    path = write(run_cfg(tmp_path, 'nowhere.pth', **{'randomness.deterministic': True}), tmp_path / 'config.py')
    assert call(monkeypatch, capsys, 'print_stages.py', path)[0] == 0
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'


@pytest.mark.parametrize(('gpus', 'ranks', 'gloo'), [(0, 2, True), (1, 2, True), (2, 2, False), (1, 1, False)])
def test_processes_that_would_share_a_gpu_talk_through_gloo(monkeypatch, gpus, ranks, gloo):
    """NCCL refuses two processes on one GPU, and MMEngine would give the second a device that is not there."""
    started, device = [], []
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(ranks))
    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(torch.cuda, 'set_device', device.append)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend, timeout: started.append(backend))
    cfg = Config(dict(launcher='pytorch'))
    start_processes(cfg)
    assert started == (['gloo'] if gloo else [])
    assert device == ([0] if gloo and gpus else [])
    assert ('model_wrapper_cfg' in cfg and cfg.model_wrapper_cfg.device_ids is None) == gloo


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_that_has_started_nothing(monkeypatch, launcher):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=f'launcher={launcher!r}, but .* is not set: nobody has started'):
        start_processes(Config(dict(launcher=launcher)))


def test_wrong_config_path_lists_its_neighbours(tmp_path, monkeypatch, capsys):
    code, _, error = call(monkeypatch, capsys, 'train.py', ROOT / 'configs/sskd/imagenet_r34_r81.py')
    assert code == 1 and "did you mean 'imagenet_r34_r18.py'" in error


@pytest.mark.slow
def test_traceback_on_request(tmp_path):
    result = warm_python(TOOLS / 'train.py', tmp_path / 'x.py', MMSSKD_TRACEBACK='1')
    assert result.returncode == 1 and 'Traceback' in result.stderr
