"""The decision list of docs/recipes.md, case by case."""

import re

import pytest
from helpers import ROOT

from mmsskd.errors import ConfigError
from mmsskd.one_call.data import Data
from mmsskd.one_call.recipe import MEASURED, RECIPES, Pair, choose

PAIR = dict(
    stages=['a', 'b', 'c'], teacher_stages=['a', 'b', 'c'], same_widths=True, parameters=10, teacher_parameters=20, macs=1.0,
    teacher_macs=2.0, same_head=True,
)  # fmt: skip
LABELS = dict(kind='', task='classification', classes=('x', 'y'), count=100)


def chosen(epochs=40, teacher_epochs=40, knows=True, pair=None, wanted=None, **data):
    return choose(Pair(**{**PAIR, **(pair or {})}), Data(**{**LABELS, **data}), epochs, teacher_epochs, knows, wanted)


@pytest.mark.parametrize(
    ('case', 'name', 'why'),
    [
        (dict(classes=(), count=9), 'features only', 'no photo has a label'),
        (dict(unlabelled_count=101), 'default', 'few labels'),
        (dict(knows=False), 'default', 'the teacher knows other classes'),
        (dict(), 'then all', "the teacher's epochs"),
        (dict(teacher_epochs=None), 'then all', "the teacher's epochs"),
        (dict(epochs=19), 'recommended', 'teacher of the same widths'),
        (dict(epochs=19, pair=dict(same_widths=False)), 'default', 'other widths'),
        (dict(epochs=19, pair=dict(teacher_parameters=131)), 'then all', 'far too small'),
        (dict(epochs=19, task='detection', pair=dict(stages=['a', 'neck'])), 'recommended', 'then boxes too'),
        (dict(epochs=19, task='detection', pair=dict(stages=['a', 'neck'], same_widths=False)), 'recommended',
         "heads of the teacher's shape"),
        (dict(epochs=19, task='detection', pair=dict(stages=['a', 'neck'], same_head=False)), 'default', 'few epochs'),
    ],
)  # fmt: skip
def test_each_case_has_its_recipe(case, name, why):
    recipe = chosen(**case)
    assert recipe.name == name and why in recipe.why
    assert sum(phase['epochs'] for phase in recipe.phases) == case.get('epochs', 40)


def test_lengths_and_starts():
    assert [phase['epochs'] for phase in chosen().phases] == [2, 2, 4, 32]
    assert len(chosen(epochs=9, teacher_epochs=9).phases) == 4, 'a third of the epochs is enough for a phase a stage'
    assert chosen(epochs=8, teacher_epochs=8).phases == [dict(train='stages', epochs=2), dict(train='all', epochs=6)]
    assert chosen(epochs=19).model == dict(init_from_teacher='all')
    detector = dict(epochs=19, task='detection', pair=dict(stages=['a', 'neck'], same_widths=False))
    foreground = dict(type='mmsskd.ForegroundMimicLoss')
    assert chosen(**detector).model == dict(init_from_teacher='head', mimic_loss=foreground)
    assert chosen(**detector, unlabelled_count=101, wanted='recommended').model == dict(init_from_teacher='head')
    assert chosen(unlabelled_count=101).on_unlabelled and not chosen(unlabelled_count=99).on_unlabelled


def test_stages_before_a_projector_take_a_third_of_the_epochs_at_most():
    assert [phase['epochs'] for phase in chosen(epochs=8, wanted='projector').phases] == [1, 1, 6]
    assert chosen(epochs=5, wanted='projector').phases == [dict(train='stages', mimic='c', epochs=5)]


def test_too_few_epochs_are_refused_with_the_least():
    with pytest.raises(ConfigError, match='epochs=3 is too few for 4 phases .*; set epochs=4 or more'):
        chosen(epochs=3, unlabelled_count=101)


@pytest.mark.parametrize('case', MEASURED)
def test_the_figures_that_are_said_are_those_of_the_page(case):
    figures, _, place = MEASURED[case].partition('; docs/')
    (text,) = re.findall(rf'^{place.rpartition(" ")[2]}\. .*', (ROOT / 'docs/recipes.md').read_text(), re.M)
    numbers = re.findall(r'\d+\.\d', figures)
    assert numbers and all(number in text for number in numbers)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_that_is_asked_for_is_taken(name):
    recipe = chosen(wanted=name)
    assert (
        recipe.name == name and 'as asked for' in recipe.why and sum(phase['epochs'] for phase in recipe.phases) == 40
    )
    assert ('projector' in recipe.model) == (name == 'projector')


@pytest.mark.parametrize(
    ('case', 'lacks'),
    [
        (
            dict(wanted='projector', knows=False),
            "recipe='projector' needs a teacher that knows the classes of the data;",
        ),
        (dict(wanted='recommended', pair=dict(same_widths=False)), 'and has the widths and the head of the student'),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(case, lacks):
    with pytest.raises(ConfigError, match=lacks):
        chosen(**case)
