"""A student that starts from weights of its teacher: from its first blocks, or from its head alone."""

import pytest
from helpers import classifier, run_cfg, same, train, weights
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmsskd.errors import ConfigError


def build(tmp_path, teacher_path, **model):
    return Runner.from_cfg(run_cfg(tmp_path, teacher_path, **{f'model.{k}': v for k, v in model.items()})).model


def test_what_both_have_is_the_teachers_and_the_rest_is_not(tmp_path, teacher_path):
    distiller = build(tmp_path, teacher_path, init_from_teacher='all')
    distiller.init_weights()
    student, teacher = distiller.student.state_dict(), weights(teacher_path)
    assert set(student) < set(teacher)  # fewer blocks of the same widths
    assert same(student, teacher)
    assert same(distiller.teacher.state_dict(), teacher)


def test_of_another_width_only_what_fits_is_taken(tmp_path, teacher_path):
    wide = classifier(depth=8, width=1)
    distiller = build(tmp_path, teacher_path, student=wide, init_from_teacher='all')
    distiller.init_weights()
    student, teacher = distiller.student.state_dict(), weights(teacher_path)
    fits = {name for name, value in student.items() if name in teacher and teacher[name].shape == value.shape}
    assert 'backbone.conv1.weight' in fits and 'backbone.layer2.0.conv1.weight' not in fits
    assert same(student, teacher, fits)


@pytest.mark.slow
def test_a_run_starts_there_and_the_default_does_not(tmp_path, teacher_path):
    start = {}

    def run(name, **model):
        runner = Runner.from_cfg(run_cfg(tmp_path / name, teacher_path, **model))
        runner.model.init_weights()
        start[name] = {key: value.clone() for key, value in runner.model.student.state_dict().items()}

    run('with', **{'model.init_from_teacher': 'all'})
    run('without')
    teacher = weights(teacher_path)
    assert same(start['with'], teacher)
    assert not same(start['without'], teacher, ['backbone.conv1.weight'])
    # in training too: stage 2 learns, so what it does not train is still the teacher's at the end
    phases = [dict(train='layer2')]
    train(run_cfg(tmp_path / 'run', teacher_path, hook=dict(phases=phases), **{'model.init_from_teacher': 'all'}))
    end = weights(tmp_path / 'run/student.pth')
    names = [name for name in end if not name.startswith('backbone.layer2')]
    assert names and same(end, teacher, names) and not same(end, teacher)


@pytest.mark.slow
def test_a_resumed_run_does_not_start_anew(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, **{'model.init_from_teacher': 'all'})
    train(cfg)
    again = run_cfg(tmp_path, teacher_path, **{'model.init_from_teacher': 'all', 'resume': True})
    again.load_from = str(tmp_path / 'epoch_2.pth')
    done = weights(tmp_path / 'student.pth')
    train(again)
    assert same(weights(tmp_path / 'student.pth'), done)


@pytest.mark.parametrize(
    ('model', 'words'),
    [
        (dict(init_from_teacher='yes'), ["init_from_teacher must be None, 'head' or 'all'", "'yes'"]),
        (dict(init_from_teacher='all', student_checkpoint='x.pth'), ['both say where the student starts']),
        (
            dict(
                init_from_teacher='all',
                student=classifier(depth=8, width=1, stem_channels=12, num_classes=7),
            ),
            ['no parameter with the name and shape', 'backbone.conv1.weight (12, 1, 3, 3)'],
        ),
    ],
)
def test_starts_that_are_none_are_refused(tmp_path, teacher_path, model, words):
    with pytest.raises(ConfigError) as error:
        build(tmp_path, teacher_path, **model)
    for word in words:
        assert word in str(error.value)


def test_the_student_is_the_one_of_its_config(tmp_path, teacher_path):
    """Nothing of the start is left in the exported config."""
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='head')]), **{'model.init_from_teacher': 'all'})
    train(cfg)
    from mmengine.config import Config

    plain = Config.fromfile(tmp_path / 'student.py')
    model = MODELS.build(plain.model)
    model.load_state_dict(weights(tmp_path / 'student.pth'), strict=True)
    assert 'init_from_teacher' not in plain.pretty_text
