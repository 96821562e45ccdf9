"""A distiller without a Runner, and a phase to put it into."""

import torch
from helpers import classifier, parse_phases
from mmengine.registry import MODELS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def build(teacher_checkpoint, *, teacher=None, student=None, **kwargs):
    model = dict(
        type='mmsskd.StagewiseDistiller',
        teacher=teacher or classifier(),
        teacher_checkpoint=str(teacher_checkpoint),
        student=student or classifier(depth=8),
        input_shape=(1, 8, 8),
    )
    torch.manual_seed(0)
    return MODELS.build(dict(model, **kwargs))


def phase(model, **cfg):
    model.set_phase(
        parse_phases(
            [dict(epochs=1, **cfg)], list(model.stages), 'epochs', optim_wrapper=dict(optimizer=dict(type='SGD'))
        )[0]
    )
    return model


def samples():
    """Ground truth of IMAGES."""
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(i) for i in range(len(IMAGES))]


def idle_student() -> dict:
    """Its head gets the feature of the second of three stages; the third runs for nobody."""
    cfg = classifier(depth=8, out_indices=(1,))
    cfg['head']['in_channels'] //= 2
    return cfg


class NoTransfers(TorchDispatchMode):
    """Refuses what copies between CPU and GPU, for which the CPU waits, and which a CUDA graph cannot hold."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function._schema.name in ('aten::_to_copy', 'aten::copy_'):
            devices = {each.device.type for each in (*args, result) if isinstance(each, torch.Tensor)}
            assert len(devices) == 1, f'{function} from {args[0].device} to {result.device}'
        return result


def on_fake_gpu(model):
    """Give both networks of a distiller weights without values on a GPU that need not be there; returns the mode to run it in.

    There, what reads a value on the CPU raises, and so does what mixes tensors of both devices.
    """
    mode = FakeTensorMode()
    for module in (*model.modules(), *model.teacher.modules()):
        with mode:
            for name, weight in module._parameters.items():
                if weight is not None:
                    fake = torch.empty(weight.shape, dtype=weight.dtype, device='cuda')
                    module._parameters[name] = torch.nn.Parameter(fake, weight.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device='cuda')
    return mode
