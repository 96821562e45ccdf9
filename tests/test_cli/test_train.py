"""Options of a training that say where its curves are drawn."""

import sys
from types import SimpleNamespace

import pytest
from helpers import run_cfg
from mmengine.config import Config
from tool_helpers import call, write

from mmsskd.cli import train as cli_train
from mmsskd.cli.train import prepare, watch
from mmsskd.errors import ConfigError

ONE_PHASE = dict(phases=[dict(train='layer1')])


def backends(cfg: Config) -> list[str]:
    return [backend['type'] for backend in cfg.visualizer['vis_backends']]


def test_tensorboard_by_one_option(tmp_path, teacher_path, monkeypatch, capsys):
    pytest.importorskip('tensorboard')
    path = write(run_cfg(tmp_path / 'work', teacher_path, hook=ONE_PHASE), tmp_path / 'config.py')
    code, _, error = call(monkeypatch, capsys, 'train.py', path, '--tensorboard')
    assert code == 0, error
    assert list(tmp_path.glob('work/*/vis_data/events.out.tfevents*')) and list(tmp_path.glob('work/*/*/scalars.json'))


def test_wandb_by_one_option(tmp_path, teacher_path, monkeypatch, capsys):
    """A stand-in for the package: what it is started with, and what it gets."""
    started, logged = [], []
    fake = SimpleNamespace(
        init=lambda **options: started.append(options),
        log=lambda values, **options: logged.append(values),
        define_metric=lambda *args, **options: None,
        config=SimpleNamespace(update=lambda *args, **options: None),
        run=SimpleNamespace(log_code=lambda **options: None),
        join=lambda: None,
        watch=lambda *args, **options: None,
    )
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    monkeypatch.setattr(cli_train, 'find_spec', lambda name: name)
    path = write(run_cfg(tmp_path / 'work', teacher_path, hook=ONE_PHASE), tmp_path / 'config.py')
    code, _, error = call(monkeypatch, capsys, 'train.py', path, '--wandb', 'offline')
    assert code == 0, error
    assert started[0]['mode'] == 'offline' and (started[0]['project'], started[0]['name']) == ('mmsskd', 'work')
    assert any('relative_error_layer1' in values for values in logged)


def test_what_is_not_installed_is_said_with_the_way_out(monkeypatch):
    monkeypatch.setattr(cli_train, 'find_spec', lambda name: None)
    with pytest.raises(ConfigError, match='--wandb needs the package wandb, .*pip install wandb, or use --tensorboard'):
        watch(Config(dict(work_dir='work')), wandb='online')


def test_backends_of_the_config_stay():
    pytest.importorskip('tensorboard')
    cfg = Config(dict(work_dir='work'))
    watch(cfg)
    assert 'visualizer' not in cfg
    watch(cfg, tensorboard=True)
    assert backends(cfg) == ['LocalVisBackend', 'TensorboardVisBackend']
    watch(cfg, tensorboard=True)
    assert backends(cfg) == ['LocalVisBackend', 'TensorboardVisBackend']


@pytest.mark.parametrize('rank', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_one_process_says_that_there_is_nothing_to_resume(tmp_path, monkeypatch, capsys, rank):
    (tmp_path / 'died').mkdir()
    cfg = Config(dict(model=dict(type='ImageClassifier'), work_dir=str(tmp_path)))
    for number, said in (('0', 1), ('1', 0)):
        monkeypatch.setenv(rank, number)
        prepare(cfg, resume='auto')
        assert capsys.readouterr().err.count('the run starts from the beginning') == said
