"""Evaluation of checkpoints of a run, of the exported student and of the teacher."""

import pickle

import pytest
from helpers import warm_python, warm_ranks
from mmengine.config import Config
from tool_helpers import TOOLS, call


@pytest.mark.slow
def test_test_takes_a_checkpoint_of_the_run_and_the_exported_student(run, monkeypatch, capsys, tmp_path):
    path, work_dir, _ = run
    monkeypatch.chdir(tmp_path)
    lines = []
    for config, checkpoint, *more in (
        (path, work_dir / 'epoch_5.pth', '--teacher'),
        (work_dir / 'student.py', work_dir / 'student.pth'),
    ):
        code, out, error = call(
            monkeypatch, capsys, 'test.py', config, checkpoint, '--work-dir', tmp_path / 'test', *more
        )
        assert code == 0, error
        lines.append([line for line in out.splitlines() if line.startswith(('student: ', 'teacher: '))])
    assert lines[0][0].startswith('teacher: accuracy/top1: ')
    assert lines[0][1] == lines[1][0]


@pytest.mark.slow
def test_a_metric_of_each_class_is_shown(run, monkeypatch, capsys, tmp_path):
    """The shipped configs of Fashion-MNIST's 10,000 images have one: a list is no number."""
    path, work_dir, _ = run
    cfg = Config.fromfile(path)
    cfg.test_evaluator = dict(type='SingleLabelMetric', items=('recall',), average=None)
    cfg.dump(tmp_path / 'config.py')
    arguments = (tmp_path / 'config.py', work_dir / 'student.pth', '--work-dir', tmp_path)
    code, out, error = call(monkeypatch, capsys, 'test.py', *arguments)
    assert code == 0, error
    assert 'student: single-label/recall_classwise: [' in out


@pytest.mark.slow
def test_test_writes_predictions(run, monkeypatch, capsys, tmp_path):
    path, work_dir, _ = run
    out = tmp_path / 'predictions.pkl'
    arguments = (path, work_dir / 'student.pth', '--work-dir', tmp_path, '--out', out)
    assert call(monkeypatch, capsys, 'test.py', *arguments)[0] == 0
    assert len(pickle.loads(out.read_bytes())) == 50


@pytest.mark.slow
def test_two_processes_measure_what_one_does(run, tmp_path):
    """As tools/dist_test.sh starts them."""
    path, work_dir, _ = run
    result = warm_ranks(TOOLS / 'test.py', path, work_dir / 'student.pth', '--work-dir', tmp_path, port=29620)
    assert result.returncode == 0, result.stderr
    alone = warm_python(TOOLS / 'test.py', path, work_dir / 'student.pth', '--work-dir', tmp_path)
    assert alone.stdout.splitlines()[-1] in result.stdout


@pytest.mark.slow
def test_teacher_of_a_plain_config(run, monkeypatch, capsys, tmp_path):
    _, work_dir, _ = run
    arguments = (work_dir / 'student.py', work_dir / 'student.pth', '--teacher', '--work-dir', tmp_path)
    code, _, error = call(monkeypatch, capsys, 'test.py', *arguments)
    assert code == 1 and 'it names no teacher' in error


@pytest.mark.slow
def test_test_is_strict(run, monkeypatch, capsys, tmp_path, teacher_path):
    path, _, _ = run
    code, _, error = call(monkeypatch, capsys, 'test.py', path, teacher_path, '--work-dir', tmp_path)
    assert code == 1 and 'error: checkpoint: ' in error and 'unexpected (' in error and 'missing (' not in error
