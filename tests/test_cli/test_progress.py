"""What a person sees of a run: one short line for each epoch, the rest in the file, and one time that is left."""

import json
import re
import sys

import pytest
from helpers import run_cfg
from mmengine.runner import Runner
from tool_helpers import call, write

from mmsskd.cli import progress
from mmsskd.cli.progress import Progress, duration

PHASES = [dict(train='layer1'), dict(train='head', epochs=2)]


def console(monkeypatch, capsys, tmp_path, teacher_path, **changes) -> list[str]:
    cfg = run_cfg(tmp_path / 'work', teacher_path, hook=dict(phases=PHASES), **{'log_level': 'INFO', **changes})
    code, out, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'config.py'))
    assert code == 0, error
    return out.splitlines()


def test_one_short_line_for_each_epoch_and_the_rest_in_the_file(monkeypatch, capsys, tmp_path, teacher_path):
    lines = console(monkeypatch, capsys, tmp_path, teacher_path)
    short = [line.partition('  ')[2] for line in lines if '  ETA ' in line and len(line) <= 120]
    assert [line.partition('  ')[0] for line in short] == [
        'phase 1/2 layer1 epoch 1/1', 'phase 2/2 head epoch 1/2', 'phase 2/2 head epoch 2/2',
    ]  # fmt: skip
    assert re.search(r'loss \S+  error layer1 \d+\.\d+  stitched top1 \S+  \S+ s/iter  ETA 0:00:0\d$', short[0])
    assert re.search(r'loss \S+  accuracy/top1 \S+ \(teacher \S+\)  lr \S+  \S+ s/iter  ETA 0:00:00$', short[2])
    assert 'error' not in short[1]
    assert [line[10:] for line in lines if ' begins: ' in line] == [
        'phase 1/2 layer1 begins: trains layer1, mimics layer1',
        'phase 2/2 head begins: trains head, learns the task',
    ]
    (log,) = (tmp_path / 'work').glob('*/*.log')
    text = log.read_text()
    assert text.count('Epoch(train)') == 9 and text.count('ETA') == 3
    for said in (
        'System environment',
        'Config:',
        'Epoch(val)',
        'validation  val/relative_error_layer1',
        '| teacher: acc',
    ):
        assert said in text  # as mmdet's users expect, and the console has none of it
        assert not any(said in line for line in lines)
    (scalars,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    assert 'cosine_layer1' in json.loads(scalars.read_text().splitlines()[1])


def test_a_log_processor_of_the_users_own_says_what_it_says(monkeypatch, capsys, tmp_path, teacher_path):
    own = {'log_processor': dict(custom_cfg=[dict(data_src='loss', log_name='mine', method_name='min', window_size=2)])}
    lines = console(monkeypatch, capsys, tmp_path, teacher_path, **own)
    assert sum('mine: ' in line for line in lines) == 9


def test_iterations_have_a_line_at_each_interval_of_the_logger(tmp_path, teacher_path, capsys):
    cfg = run_cfg(tmp_path, teacher_path, iters=3, hook=dict(phases=[dict(train='layer1'), dict(train='head', iters=4)]),
                  log_level='INFO', **{'default_hooks.logger.interval': 2})  # fmt: skip
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Progress())
    runner.train()
    said = re.findall(r'(phase \S+ \S+ iter \d/\d)  ', capsys.readouterr().out)
    assert said == [f'phase 1/2 layer1 iter {i}/3' for i in (2, 3)] + [f'phase 2/2 head iter {i}/4' for i in (1, 3, 4)]


@pytest.mark.parametrize('terminal', [True, False])
def test_a_line_in_place_on_a_terminal_and_a_plain_one_in_a_file(monkeypatch, capsys, tmp_path, teacher_path, terminal):
    monkeypatch.setattr(progress, 'IN_PLACE', 0.0)
    monkeypatch.setattr(progress, 'IN_A_FILE', 0.0)
    runner = Runner.from_cfg(run_cfg(tmp_path / 'work', teacher_path, hook=dict(phases=PHASES), log_level='INFO'))
    hook = Progress()
    runner.register_hook(hook)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: terminal, raising=False)
    runner.train()
    assert runner.message_hub.get_info('eta') == hook.left == 0.0  # the file says the same time
    lines = capsys.readouterr().out.split('\n')
    said = re.findall(r'phase \S+ \S+ epoch \d/\d  (\d+) % of the run  ETA 0:00:\d\d', '\n'.join(lines))
    assert said == ['11', '22', '33', '44', '56', '67', '78', '89', '100']
    if terminal:  # each is removed before anything else is printed
        assert all('% of the run' not in line.rpartition(progress.CLEAR)[2] for line in lines)
    else:
        assert all(line.endswith(('0', '1', '2', '3', '4', '5')) for line in lines if '% of the run' in line)
        assert progress.CLEAR not in ''.join(lines)


def test_a_run_before_another_counts_both(monkeypatch, tmp_path, teacher_path, capsys):
    monkeypatch.setattr(progress, 'IN_A_FILE', 0.0)
    runner = Runner.from_cfg(run_cfg(tmp_path, teacher_path, hook=dict(phases=PHASES), log_level='INFO'))
    hook = Progress(then=2.0)
    runner.register_hook(hook)
    runner.train()
    assert hook.left == pytest.approx(18 * hook.pace)  # nine iterations are done, and twice as many come
    said = capsys.readouterr().out
    assert re.findall(r' (\d+) % of the run', said)[-1] == '33'
    # measured after the first phase, and not said in one that follows no feature
    assert 'stitched' in said and not re.search(r'head epoch .*stitched', said)


def test_what_the_stages_are_worth_with_the_rest_of_the_teacher_is_said(monkeypatch, tmp_path, teacher_path, capsys):
    monkeypatch.setattr(progress, 'IN_A_FILE', 0.0)
    phases = [dict(train='layer1', epochs=2)]
    runner = Runner.from_cfg(run_cfg(tmp_path, teacher_path, hook=dict(phases=phases), log_level='INFO'))
    runner.register_hook(Progress())
    runner.train()
    said = capsys.readouterr().out
    assert re.search(r'layer1 epoch 2/2  \d+ % of the run  stitched top1 [\d.]+  ETA', said)
    assert re.search(r'phase 1/1 layer1 epoch 2/2  loss .* stitched top1 [\d.]+  ', said)


def test_what_does_not_fit_is_left_out_the_least_needed_first(tmp_path, teacher_path, capsys):
    runner = Runner.from_cfg(run_cfg(tmp_path, teacher_path, hook=dict(phases=PHASES), log_level='INFO'))
    hook, errors = Progress(), {f'stage{i}': f'stage{i} 0.12' for i in range(7)}
    hook.schedule = None
    runner.register_hook(hook)
    parts = dict(
        where='train epoch 1/2', errors='error ' + ' '.join(errors.values()), task='', rate='lr 0.1', pace='1 s/iter'
    )
    parts['last error'] = 'error stage6 0.12'

    def said(**metrics):
        capsys.readouterr()
        hook._say(runner, parts, metrics)
        return capsys.readouterr().out.partition(' - ')[2].rpartition(' - ')[2].strip()

    assert said() == 'train epoch 1/2  error stage6 0.12  1 s/iter'
    parts['errors'] = 'error stage0 0.12'
    assert said(top1=1.5, top5=2.0) == 'train epoch 1/2  error stage0 0.12  top1 1.5  top5 2  lr 0.1  1 s/iter'
    assert (
        said(**{f'set{i}/accuracy': 0.5 for i in range(9)}) == 'train epoch 1/2  error stage6 0.12  set0/accuracy 0.5'
    )


def test_duration():
    assert [duration(seconds) for seconds in (0.4, 59.6, 3723, 100_000)] == [
        '0:00:00',
        '0:01:00',
        '1:02:03',
        '27:46:40',
    ]
