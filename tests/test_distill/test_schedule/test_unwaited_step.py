"""Steps that wait for no GPU: the same weights, nothing is read before the next step is launched, no copy of a batch waits.

On a CPU with what makes them on a GPU, and on a GPU that is simulated, where a value that is read raises.
"""

from types import SimpleNamespace

import pytest
import torch
from distill_helpers import build, on_fake_gpu, phase, samples
from helpers import GPU, run_cfg, train, weights
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from recorded_graph import RecordedGraph
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmsskd.distill.losses import StepValues
from mmsskd.distill.schedule.captured_step import CapturedSteps
from mmsskd.distill.schedule.resume import count_on_cpu
from mmsskd.distill.schedule.unwaited_step import UnwaitedSteps, send_without_waiting
from mmsskd.errors import NonFiniteLossError

ADAM = dict(type='Adam', lr=0.01)


def two_phases(work_dir, teacher_path, wrapper, iters=4, **overrides):
    recipe = dict(iters=iters, optim_wrapper=wrapper)
    hook = dict(phases=[dict(train='layer1'), dict(train='head')], transfer=recipe, head=recipe)
    cfg = run_cfg(work_dir, teacher_path, iters=iters, hook=hook, **overrides)
    cfg.default_hooks.logger.interval = 3
    cfg.default_hooks.checkpoint.interval = iters
    return cfg


@pytest.mark.parametrize(
    'wrapper',
    [dict(optimizer=ADAM), dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), clip_grad=dict(max_norm=1.0))],
)
def test_weights_are_those_of_steps_that_wait(tmp_path, teacher_path, monkeypatch, wrapper):
    train(two_phases(tmp_path / 'waited', teacher_path, wrapper))
    made = []
    monkeypatch.setattr(UnwaitedSteps, 'runs_on', staticmethod(lambda device: True))
    monkeypatch.setattr(
        UnwaitedSteps, '_work', lambda self, *args, work=UnwaitedSteps._work: made.append(1) or work(self, *args)
    )
    runner = train(two_phases(tmp_path / 'unwaited', teacher_path, wrapper))
    assert len(made) == 8 and len(runner.message_hub.get_scalar('train/loss').data[0]) == 4, (
        'of the last phase, all steps'
    )
    ends = [weights(tmp_path / name / 'iter_8.pth') for name in ('waited', 'unwaited')]
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-3)


class NoWaits(TorchDispatchMode):
    """Refuses copies between CPU and GPU for which the CPU waits."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name == 'aten::_fused_adam_':  # torch has none for tensors without values
            assert {each.device.type for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)} == {
                'cuda'
            }
            return None
        result = function(*args, **(kwargs or {}))
        if function._schema.name == 'aten::_to_copy' and args[0].device != result.device:
            assert (kwargs or {}).get('non_blocking'), f'{function} from {args[0].device} to {result.device}'
        return result


@pytest.mark.parametrize('part', ['layer1', 'head'])
def test_a_step_on_a_gpu_reads_the_values_of_the_step_before(teacher_path, monkeypatch, part):
    """Images and labels are sent without waiting too. Autograd wants a real GPU, so gradients come by hand."""
    model, order = phase(build(teacher_path), train=part).train(), []

    def backward(loss, **options):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(torch.Tensor, 'backward', backward)
    send_without_waiting(model.data_preprocessor)
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, 'Event', lambda: event)
    monkeypatch.setattr(StepValues, 'read', lambda self: order.append('read') or dict.fromkeys(self.names, 1.0))
    runner = SimpleNamespace(iter=0, message_hub=MessageHub.get_instance('unwaited'))
    model.measures_agreement = False
    model.steps = UnwaitedSteps(runner, model, SimpleNamespace(optim_wrapper={}))
    with on_fake_gpu(model):
        model.data_preprocessor._device = torch.device('cuda')
        optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad])
        optimizer.register_step_post_hook(lambda *step: order.append('launched'))
        wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=1.0, error_if_nonfinite=True))
        with NoWaits():
            for _ in range(2):
                images = torch.empty(4, 1, 8, 8, dtype=torch.uint8)
                losses = model.train_step(dict(inputs=images, data_samples=samples()), wrapper)
        assert order[:2] == ['launched', 'launched'] and set(order[2:]) == {'read'}
        with pytest.raises(DataDependentOutputException):  # as a value that is read would
            losses['loss'].item()


@MODELS.register_module()
class Steep(torch.nn.Module):
    """A finite loss whose gradient is not."""

    def forward(self, student, teacher):
        if student[0].requires_grad:
            student[0].register_hook(lambda gradient: gradient * float('inf'))
        return (student[0] - teacher[0]).square().mean()


@MODELS.register_module()
class Infinite(torch.nn.Module):
    """A loss that is not finite."""

    def forward(self, student, teacher):
        return (student[0] - teacher[0]).square().mean() * float('inf')


@pytest.mark.parametrize('way', ['ordinary', 'accumulated', 'unwaited', 'captured'])
@pytest.mark.parametrize(
    ('loss', 'words'), [('Steep', r'grad_norm=(nan|inf)'), ('Infinite', r'loss=inf, loss_mimic_layer1=inf')]
)
def test_gradients_that_must_be_finite_end_the_run_with_its_message(
    tmp_path, teacher_path, monkeypatch, way, loss, words
):
    """``error_if_nonfinite``: torch's own error names neither phase nor checkpoint. Losses come first."""
    monkeypatch.setattr(UnwaitedSteps, 'runs_on', staticmethod(lambda device: way == 'unwaited'))
    if not GPU:
        monkeypatch.setattr(CapturedSteps, 'graph', RecordedGraph)
    sgd = dict(type='SGD', lr=0.05, momentum=0.9)
    wrapper = dict(optimizer=sgd, clip_grad=dict(max_norm=1.0, error_if_nonfinite=True))
    wrapper.update(accumulative_counts=2 if way == 'accumulated' else 1)
    cfg = two_phases(tmp_path, teacher_path, wrapper, **{'model.mimic_loss': dict(type=loss)})
    cfg.default_hooks.stage_schedule.cuda_graph = way == 'captured'
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, 'empty_like', lambda *args, **kwargs: empty_like(*args, **kwargs).fill_(float('nan')))
    with pytest.raises(
        NonFiniteLossError, match=rf'phase 1/2 layer1, iteration \d of the run, rank 0: .*{words}.*before'
    ):
        train(cfg)
    (path,) = tmp_path.glob('non_finite_iter_*.pth')
    kept = torch.load(path, weights_only=False)
    assert not any(each.isnan().any() for each in kept['state_dict'].values() if each.ndim)
    states = kept['optimizer']['state'].values()
    assert all(
        torch.isfinite(state['momentum_buffer']).all() for state in states if state.get('momentum_buffer') is not None
    )
    assert not kept['stage_schedule']['gradients']


def test_a_resumed_adam_waits_for_no_count():
    """MMEngine loads it to the GPU, where torch would read the count of each parameter in each step."""
    with FakeTensorMode():
        checkpoint = dict(optimizer=dict(state={0: dict(step=torch.empty((), device='cuda'))}))
        count_on_cpu(checkpoint)
        assert checkpoint['optimizer']['state'][0]['step'].device.type == 'cpu'
    count_on_cpu({})
