"""How long a call takes: the arithmetic, and the options that are named where it is long. No timing is asserted."""

import pytest
from helpers import classifier

from mmsskd.one_call.estimate import Pace, measure, sooner

PACE = Pace(student=0.1, teacher=0.2, reading=0.01, side=64)


@pytest.mark.parametrize(
    ('phase', 'seconds'),
    [
        (dict(train='all'), 2 * 100 * (0.3 + 0.01)),
        (dict(train='stages'), 2 * 100 * (0.3 + 0.2 + 0.01)),
        (dict(train=['layer1'], mimic='layer1'), 2 * 100 * (0.5 / 4 + 0.01)),
        (dict(train='all', mimic='neck'), 2 * 100 * (0.3 + 0.2 + 0.01)),
        (dict(train='head'), 2 * 100 * (0.1 + 0.01)),
    ],
)
def test_a_phase_costs_what_it_runs(phase, seconds):
    assert PACE.of_phase(dict(phase, epochs=2), stages=4, images=100) == pytest.approx(seconds)


def test_a_teacher_and_smaller_images():
    assert PACE.of_teacher(epochs=3, images=100) == pytest.approx(3 * 100 * (0.6 + 0.01))
    assert PACE.at(32).of_teacher(1, 100) == pytest.approx(100 * (0.15 + 0.01))


@pytest.mark.parametrize(
    ('cost', 'found'),
    [
        (0.001, (128, 20, 327.68)),  # nothing has to change
        (0.01, (64, 14, 573.44)),
        (1.0, (32, 5, 5120.0)),  # the least that there is
    ],
)
def test_the_largest_images_with_which_ten_minutes_do(cost, found):
    assert sooner(lambda side, epochs: cost * epochs * side**2, [128, 64, 32], 20, 5) == pytest.approx(found)


def test_a_forward_of_each_network_is_timed():
    network = classifier(8, 0.25, 10)
    images = dict(type='mmsskd.Digits', split='train', pipeline=[dict(type='mmpretrain.PackInputs')])
    run = dict(
        default_scope='mmpretrain',
        model=dict(student=network, teacher=network),
        train_dataloader=dict(batch_size=4, dataset=images),
    )
    pace = measure(run, 'classification')
    assert pace.side == 8 and min(pace.student, pace.teacher, pace.reading) > 0
