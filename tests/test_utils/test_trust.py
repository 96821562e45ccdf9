"""Files of strangers: no way to load one runs what it names, and what honest files hold is read."""

import argparse
import collections
import datetime
import functools
import http.server
import pathlib
import pickle
import re
import runpy
import sys
import threading

import mmengine
import numpy as np
import pytest
import torch
from _model import read_recognizer
from distill_helpers import build
from helpers import ROOT, classifier, run_cfg, save_weights, train, warm_python
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.optim import OneCycleLR
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint as load_as_mmengine

from mmsskd.compare.runs import Run, execute
from mmsskd.distill.build import build_model, load_strictly
from mmsskd.distill.export import export_checkpoint, plain_config
from mmsskd.errors import ConfigError
from mmsskd.utils.trust import VARIABLE, config_of
from mmsskd.visualization.history import read_history


class Payload:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return exec, (f'open({str(self.mark)!r}, "w").close()',)


@pytest.fixture
def evil(tmp_path):
    """A checkpoint of the default teacher that holds a payload too, and the file that would be made."""
    path, mark = tmp_path / 'evil' / 'epoch_1.pth', tmp_path / 'mark'
    path.parent.mkdir()
    save_weights(classifier(), path)
    content = dict(torch.load(path), optimizer={}, param_schedulers=[], message_hub={})
    content['meta'] = dict(epoch=1, iter=3, seed=0, payload=Payload(mark), cfg='model = dict()')
    torch.save(content, path)
    return path, mark


def plain_cfg(work_dir, **changes) -> Config:
    """A run of the teacher itself, without distillation."""
    cfg = run_cfg(work_dir, 'unused')
    cfg.model = classifier()
    cfg.default_hooks.pop('stage_schedule')
    cfg.merge_from_dict(changes)
    return cfg


def tool(name, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, args)])
        patch.setenv('MMSSKD_TRACEBACK', '1')
        patch.setenv(VARIABLE, '')
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')


def written(cfg: Config, path):
    cfg.dump(str(path))
    return path


def from_url(path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=path.parent)
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(path.parent / 'home'))
        handler.log_message = lambda *args: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            build(f'http://127.0.0.1:{server.server_port}/{path.name}')
        finally:
            server.shutdown()


def compared(path, **changes):
    run = dict(label='x', seed=0, epochs=None, work_dir=str(path.parent), metric='accuracy/top1', measure='seconds')
    execute(Run(**{**run, **changes}))


def resumed_by_compare(path):
    """The newest checkpoint of an interrupted run, in a work dir that its very settings made."""
    config = written(plain_cfg(path.parent / 'w'), path.parent / 'plain.py')
    run = dict(config=str(config), measure='test')
    settings = Run(
        label='x', seed=0, epochs=None, work_dir=str(path.parent), metric='accuracy/top1', **run
    ).fingerprint()
    (path.parent / 'fingerprint').write_text(settings)
    compared(path, **run)


def history(path):
    (path.parent / 'now' / 'vis_data').mkdir(parents=True)
    (path.parent / 'now' / 'vis_data' / 'scalars.json').write_text('{}\n')
    read_history(path.parent, path.name)


def init_cfg(path, **more):
    start = dict(type='Pretrained', checkpoint=str(path), **more)
    MODELS.build(dict(classifier(init_cfg=start), _scope_='mmpretrain')).init_weights()


WAYS = {
    'teacher_checkpoint': build,
    'student_checkpoint': lambda path: build(
        save_weights(classifier(), path.parent / 'teacher.pth'), student=classifier(), student_checkpoint=str(path)
    ).init_weights(),
    'a URL': from_url,
    'load_from': lambda path: Runner.from_cfg(plain_cfg(path.parent, load_from=str(path))).load_or_resume(),
    'resume': lambda path: Runner.from_cfg(plain_cfg(path.parent, load_from=str(path), resume=True)).load_or_resume(),
    'init_cfg': init_cfg,
    'init_cfg with a prefix': lambda path: init_cfg(path, prefix='backbone.'),
    'tools/train.py --resume': lambda path: tool(
        'train.py', written(plain_cfg(path.parent), path.parent / 'plain.py'), '--resume', path
    ),
    'tools/train.py load_from': lambda path: tool(
        'train.py', written(plain_cfg(path.parent, load_from=str(path)), path.parent / 'plain.py')
    ),
    'tools/test.py': lambda path: tool('test.py', written(plain_cfg(path.parent), path.parent / 'plain.py'), path),
    'tools/export_student.py': lambda path: tool('export_student.py', path, path.parent / 'out'),
    'a face model': lambda path: read_recognizer(Config.fromfile(ROOT / 'configs/plain/face_orl_r18.py'), str(path)),
    'the teacher of a comparison': lambda path: compared(
        path.parent / 'run' / 'x',
        config=str(written(plain_cfg(path.parent / 'w'), path.parent / 'plain.py')),
        measure='test',
        checkpoint=str(path),
    ),
    'a comparison that goes on': resumed_by_compare,
    'the pages of a demo': history,
    "MMEngine's own function": lambda path: load_as_mmengine(torch.nn.Linear(1, 1), str(path)),
    'the published checkpoint': lambda path: CheckpointLoader.load_checkpoint(str(path)),
}


@pytest.mark.parametrize('way', WAYS)
def test_no_way_to_load_a_checkpoint_runs_what_it_names(way, evil):
    path, mark = evil
    with pytest.raises(ConfigError) as refusal:
        WAYS[way](path)
    assert not mark.exists()
    for words in ('exec', path.name, '--trust-checkpoint', 'trust_checkpoint=True'):
        assert words in str(refusal.value)


TRAIN_PY_OF_OTHERS = """
import sys
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
kind = MODELS.get('mmsskd.StagewiseDistiller')  # as the Runner looks for its model; nothing else of ours is imported
load_checkpoint(None, sys.argv[1])
"""


@pytest.mark.slow
def test_nor_does_the_train_py_of_another_package_that_builds_our_distiller(evil):
    path, mark = evil
    done = warm_python('-c', TRAIN_PY_OF_OTHERS, path)
    assert 'it names exec' in done.stderr and not mark.exists()


@pytest.mark.parametrize('key', [False, True], ids=['the flag', 'the key of the config'])
def test_who_trusts_the_author_says_so(key, evil, monkeypatch):
    """And where nobody does, the same call is refused, as above."""
    path, mark = evil
    config = written(plain_cfg(path.parent, **({'trust_checkpoint': True} if key else {})), path.parent / 'plain.py')
    tool('test.py', config, path, *([] if key else ['--trust-checkpoint']))
    assert mark.exists()


CONFIGS = {  # a text after the config of the run, what of it is refused
    'a call': ('x = open({mark!r}, "w")', "open('"),
    'a call inside': ('x = dict(a=[1, (open({mark!r}, "w"), 2)])', "open('"),
    'an import': ('from pathlib import Path\nx = Path({mark!r}).touch()', 'from pathlib import Path'),
    'an attribute': ('x = ().__class__.__base__.__subclasses__()', '__subclasses__'),
    'a comprehension': ('x = [open({mark!r}, "w") for _ in (1,)]', 'for _ in'),
    'code in a key': ("env_cfg = {{\"a': open({mark!r}, 'w'), 'b\": 1}}", 'the key "a\': open'),
    'a part that is changed': ("model['neck'] = 1", "model['neck'] = 1"),
    'a function as a type': ('model.neck', "type='os.mkdir'"),
    'a config file': ('model.student', 'a file that would be run as Python'),
    'a config file outside of its package': ('model.student ..', 'a file that would be run as Python'),
}


def save_run(text, state, path):
    """A checkpoint of a run as the export reads it."""
    pins, meta = dict(student_config=text), dict(cfg=text)
    torch.save(dict(stage_schedule={}, pins=pins, meta=meta, state_dict=state), path)


@pytest.mark.parametrize('case', CONFIGS)
def test_the_config_in_a_checkpoint_is_read_as_data(case, tmp_path):
    """Not by the export, and not by whoever loads and builds what it has written."""
    mark, (more, found) = tmp_path / 'mark', CONFIGS[case]
    (tmp_path / 'own.py').write_text(f'open({str(mark)!r}, "w").close()\nmodel = dict(type="ImageClassifier")\n')
    cfg = run_cfg(tmp_path, 'teacher.pth')
    if more == 'model.neck':
        cfg.model.student.neck, more = dict(type='os.mkdir', path=str(mark)), ''
    elif more.startswith('model.student'):
        where = f'mmpretrain::{"../" * 20}{tmp_path}' if '..' in more else str(tmp_path)
        cfg.model.student, more = f'{where}/own.py', ''
    text = f'{cfg.pretty_text}\n{more.format(mark=str(mark))}\n'
    save_run(text, {}, tmp_path / 'x.pth')
    with pytest.raises(ConfigError) as refusal:
        export_checkpoint(str(tmp_path / 'x.pth'), str(tmp_path / 'out'))
        exported = Config.fromfile(tmp_path / 'out/student.py')
        MODELS.build(dict(exported.model, _scope_='mmpretrain'))
    assert not mark.exists()
    for words in (found, 'x.pth', '--trust-checkpoint', 'trust_checkpoint=True'):
        assert words in str(refusal.value)


def test_who_trusts_one_checkpoint_does_not_trust_what_it_exports(tmp_path, monkeypatch):
    cfg = run_cfg(tmp_path, 'teacher.pth', trust_checkpoint=True)
    text = f'{plain_config(cfg).pretty_text}\nlow = float("3")\n'
    state = build_model(cfg.model.student, 'student').state_dict()
    save_run(text, state, tmp_path / 'x.pth')
    monkeypatch.setenv(VARIABLE, '1')
    _, config = export_checkpoint(str(tmp_path / 'x.pth'), str(tmp_path / 'out'))
    assert 'trust_checkpoint' not in Config.fromfile(config)


@pytest.mark.parametrize('path', ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', 'sskd/digits_r14x2_r8.py', 'pure Python'])
def test_configs_of_all_forms_are_read_back_as_they_were(path):
    pure = ROOT / 'mmsskd/configs/sskd/faster_rcnn_r101_r50.py'
    cfg = (
        get_config(path)
        if '::' in path
        else Config.fromfile(pure if path == 'pure Python' else ROOT / 'configs' / path)
    )
    cfg.limits = dict(low=float('-inf'), high=float('inf'), names={'a', 'b'}, nothing=None, text='\'"\\ \n 犬 $x^')
    cfg.by_number = {1: 'a', 'b c': dict(d=(1,))}
    assert config_of(cfg.pretty_text, 'x.pth').to_dict() == cfg.to_dict()
    assert config_of(cfg.to_dict(), 'x.pth').to_dict() == cfg.to_dict()


def test_the_function_of_ours_that_runs_name_is_read_and_no_other():
    cfg = Config(dict(train_dataloader=dict(collate_fn=dict(type='mmsskd.stack_images'))))
    assert config_of(cfg.pretty_text, 'x.pth').to_dict() == cfg.to_dict()
    with pytest.raises(ConfigError, match='is no class of a package of OpenMMLab'):
        config_of(cfg.pretty_text.replace('stack_images', 'datasets.shutil.rmtree'), 'x.pth')


@pytest.mark.parametrize('text', ['(' * 5000, 'x = ' + '[' * 5000 + ']' * 5000, 'x =', '\0', 'x = 1 +' * 9999])
def test_no_text_of_a_config_ends_the_process(text):
    with pytest.raises(ConfigError, match='the config in x.pth'):
        config_of(text, 'x.pth')


@pytest.mark.parametrize('suffix', ['pkl', 'yml'])
def test_lists_of_annotations_run_nothing(suffix, tmp_path):
    mark, path = tmp_path / 'mark', tmp_path / f'list.{suffix}'
    path.write_bytes(
        pickle.dumps(Payload(mark))
        if suffix == 'pkl'
        else f'a: !!python/object/apply:os.system ["touch {mark}"]'.encode()
    )
    with pytest.raises(Exception, match='exec' if suffix == 'pkl' else 'could not determine a constructor'):
        mmengine.load(str(path))
    assert not mark.exists()
    data = dict(images=[dict(name='a', boxes=[[1, 2.5]])])
    mmengine.dump(data, str(path))
    assert mmengine.load(str(path)) == data


# -- what honest files hold --------------------------------------------------------------------------------------------


def contents() -> dict:
    """Of MMEngine's own checkpoints, of OpenMMLab's model zoo, of InsightFace's and of others."""
    hub = MessageHub('trust')
    for value in (1.0, np.float64(3)):
        hub.update_scalar('loss', value)
    hub.update_info('states', np.random.get_state())  # noqa: NPY002
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    by_name = collections.defaultdict(list, a=[1])
    return dict(
        state_dict=collections.OrderedDict(weight=torch.nn.Parameter(torch.ones(2)), half=torch.ones(1).bfloat16()),
        optimizer=optimizer.state_dict(),
        param_schedulers=[OneCycleLR(optimizer, eta_max=0.1, total_steps=5).state_dict()],
        message_hub=hub.state_dict(),
        meta=dict(
            time=datetime.datetime(2020, 1, 2),
            took=datetime.timedelta(1),
            dataset_meta=dict(classes=('cat', '犬 $x^'), palette=[(1, 2, 3)], known={1, 2}),
            cfg=ConfigDict(model=dict(type='A')),
            args=argparse.Namespace(out=pathlib.Path('/x/y')),
            count=np.int64(3),
            mean=np.arange(6.0).reshape(2, 3).T,
            big_endian=np.arange(3, dtype='>i4'),
            names=np.array(['a', 'bc']),
            crop=slice(1, 2),
            by_name=by_name,
            counts=collections.Counter('aab'),
        ),
        state_dict_softmax_fc=dict(weight=torch.ones(2)),
    )


@pytest.mark.parametrize('times', [1, 2], ids=['once', 'saved again'])
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'the format before torch 1.6'])
def test_what_others_put_into_checkpoints_is_read(zipped, times, tmp_path):
    found = expected = contents()
    for _ in range(times):
        torch.save(found, tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
        found = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'), map_location='cpu')
    for key, value in expected['meta'].items():
        same = np.array_equal if isinstance(value, np.ndarray) else lambda a, b: a == b
        assert same(found['meta'][key], value) or key == 'args', key
    assert str(found['meta']['args'].out) == '/x/y'
    assert torch.equal(found['state_dict']['weight'], torch.ones(2))
    hub = MessageHub('again')
    hub.load_state_dict(found['message_hub'])
    hub.update_scalar('loss', 5.0)
    assert hub.get_scalar('loss').mean() == 3 and hub.get_scalar('loss').current() == 5
    assert hub.get_info('states')[1].tolist() == expected['message_hub']['runtime_info']['states'][1].tolist()
    name = 'anneal_func'
    assert found['param_schedulers'][0][name] is expected['param_schedulers'][0][name]


@pytest.mark.parametrize(
    'value',
    [np.array([object()]), np.zeros(2, [('a', 'i4'), ('b', 'O')]), MessageHub, OneCycleLR.step, torch.nn.ReLU()],
    ids=['an array of objects', 'a record array', 'a class', 'a method', 'a module'],
)
def test_what_is_no_data_is_refused(value, tmp_path):
    torch.save(dict(state_dict={}, meta=dict(value=value)), tmp_path / 'x.pth')
    with pytest.raises(ConfigError, match=r"x.pth' holds more than data \(.*\): loading it could run code"):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'), map_location='cpu')


@pytest.mark.slow
def test_a_whole_run_with_ema_and_a_scheduler_of_one_cycle_resumes(tmp_path, teacher_path):
    """And the text that MMEngine's first versions put into a checkpoint, which a Runner runs as Python on resume, is not run."""
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.custom_hooks = [dict(type='EMAHook', begin_epoch=1)]
    cfg.default_hooks.stage_schedule.update(phases=[dict(train='head', epochs=2)], save_phase_ends=False)
    cfg.optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01))
    cfg.param_scheduler = [dict(type='OneCycleLR', eta_max=0.1, total_steps=6, by_epoch=False)]
    whole = train(cfg).model.state_dict()
    content = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    content['meta']['config'] = f'open({str(tmp_path / "mark")!r}, "w").close()'
    torch.save(content, tmp_path / 'start.pth')
    cfg.update(
        load_from=str(tmp_path / 'start.pth'), resume=True, experiment_name='cycle', work_dir=str(tmp_path / 'b')
    )
    again = train(cfg).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert not (tmp_path / 'mark').exists()


def test_a_damaged_file_is_not_called_malicious(tmp_path):
    for content in (b'junk' * 100, b'', b'PK\x03\x04' + b'x' * 500):
        (tmp_path / 'x.pth').write_bytes(content)
        with pytest.raises(ConfigError, match='is the file truncated'):
            load_strictly(torch.nn.Linear(1, 1), str(tmp_path / 'x.pth'), 'checkpoint')


def test_the_page_on_security_names_tests_that_there_are():
    named = set(re.findall(r'`(test_\w+)`', (ROOT / 'docs/security.md').read_text()))
    there = {
        name
        for path in ROOT.glob('tests/**/test_*.py')
        for name in re.findall(r'^def (test_\w+)', path.read_text(), re.M)
    }
    assert len(named) > 15 and named <= there
