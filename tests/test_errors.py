"""Messages that a user meets: what was found, what is allowed, and which part of a config it is."""

import mmengine.hooks
import mmengine.optim  # noqa: F401  they are registered
import mmpretrain.registry  # noqa: F401
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import Registry

from mmsskd.errors import (
    NO_OPS,
    ConfigError,
    NonFiniteLossError,
    candidates,
    check_keys,
    check_whole,
    describe,
    explaining,
    naming,
    some,
)
from mmsskd.registry import MODELS


def test_candidates_begin_with_the_nearest_and_are_not_endless():
    names = [f'layer{i}' for i in range(20)]
    assert candidates('layr3', ['neck', 'layer3', 'layer4']).startswith("did you mean 'layer3'? Candidates: layer3, ")
    assert candidates('x', names).endswith(', ... (20 in all)') and candidates('x', []) == 'Candidates: none'
    assert some(['a', 1, 'b', 'c']) == 'a, 1, b, ...' and some('ab') == 'a, b'


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (3, 'model must be a dict with some of stages, teacher; found 3'),
        (dict(stage=1), "model: unknown field 'stage'; did you mean 'stages'"),
        (dict(prefix=1), "model: 'prefix' is gone: leave it out"),
    ],
)
def test_keys(cfg, message):
    with pytest.raises(ConfigError, match=message):
        check_keys(cfg, ['stages', 'teacher'], 'model', gone=dict(prefix='leave it out'))
    check_keys(dict(stages=1), ['stages', 'teacher'], 'model')


@pytest.mark.parametrize('value', [True, 0, 1.0, '1', None])
def test_whole_numbers(value):
    with pytest.raises(ConfigError, match=f'epochs must be a whole number of weeks of at least 1, found {value!r}'):
        check_whole('epochs', value, unit=' of weeks')
    check_whole('epochs', 1)


def test_errors_of_others_are_described_and_ours_stay(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'OfAUser', object)
    assert describe(ConfigError('as it is')) == 'as it is'
    assert describe(ValueError('wrong')) == 'ValueError: wrong' and describe(KeyError('a')) == 'KeyError: a'
    assert describe(ImportError("No module named 'mmcv._ext'")) == NO_OPS
    message = describe(KeyError('mmengine.LogerHook is not in the mmengine::hook registry. Please check'))
    assert message.startswith("there is no hook of type 'mmengine.LogerHook'; did you mean 'LoggerHook'? Candidates: ")
    message = describe(KeyError('OfAUser is not in the mmpretrain::model registry. Please check'))
    assert message == "there is no model of type 'OfAUser'; write 'mmsskd.OfAUser'"
    with pytest.raises(ConfigError, match='^the teacher: OSError: gone') as caught, explaining('the teacher'):
        raise OSError('gone')
    assert isinstance(caught.value.__cause__, OSError)
    for ours in (ConfigError, NonFiniteLossError):
        with pytest.raises(ours, match='^mine$'), explaining('the teacher'):
            raise ours('mine')


def test_a_child_registry_of_another_name_than_its_parent():
    """As mmpretrain's optimizer wrappers have it; nothing was a candidate there."""
    message = describe(KeyError('OptimWraper is not in the mmpretrain::optimizer_wrapper registry. Please check'))
    assert "of type 'OptimWraper'; did you mean 'OptimWrapper'? Candidates: OptimWrapper" in message


class Parent:
    def __init__(self, depth, *, width=1):
        pass


class Child(Parent):
    def __init__(self, side=1, **rest):
        super().__init__(**rest)


@pytest.mark.parametrize(
    ('call', 'words'),
    [
        (lambda: Parent(dept=1), "'dept'; did you mean 'depth'? Candidates: depth, width"),
        (lambda: Child(wdth=1), "'wdth'; did you mean 'width'? Candidates: width, depth"),
        (lambda: candidates('a', allowd=[]), "'allowd'; did you mean 'allowed'? Candidates: allowed, wrong, most"),
        (lambda: (lambda x: x)(y=1), "unexpected keyword argument 'y'"),  # nobody knows where that is
    ],
)
def test_an_argument_that_does_not_exist_is_told_from_those_that_do(call, words):
    with pytest.raises(TypeError) as caught:
        call()
    assert describe(caught.value).endswith(words)


def test_the_part_of_a_config_that_fails_is_named():
    parts = Registry('part of a test')

    @parts.register_module()
    class Inner:
        def __init__(self, size):
            self.size = size + 1

    @parts.register_module()
    class Outer:
        def __init__(self, inner):
            self.inner = [parts.build(each) for each in inner]

    good, bad = (dict(type='Inner', size=size) for size in (1, 'x'))
    cfg = ConfigDict(type='Outer', inner=[good, bad])
    with pytest.raises(ConfigError) as caught, naming(cfg, 'model'):
        parts.build(cfg)
    first, second = str(caught.value).splitlines()
    assert first.startswith('model.inner[1] cannot be built: TypeError') and "'size': 'x'" in second
    with pytest.raises(ZeroDivisionError), naming(cfg):  # nothing of the config was being built
        raise ZeroDivisionError
