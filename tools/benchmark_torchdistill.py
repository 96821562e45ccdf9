"""The step of torchdistill 1.1.5 for `tools/benchmark.py`, where that is installed: a peer, not a dependency."""

import logging

import benchmark_steps as steps
from torch import nn


class ByHand(nn.Module):
    """A loss of the loop by hand."""

    def __init__(self, compare):
        super().__init__()
        self.compare = compare

    def forward(self, student, target):
        (student,), (target,) = steps.levels(student), steps.levels(target)
        return self.compare(student, target)


def torchdistill_step(distiller, phase):
    """Both networks cut to a Sequential, as in the stages of its sample configs, and its ``DistillationBox``.

    It freezes parameters but not the statistics of batch normalization; those are frozen for it here, so that the work is equal.
    """
    from torchdistill.common.constant import def_logger
    from torchdistill.core.distillation import DistillationBox
    from torchdistill.losses.registry import register_low_level_loss
    from torchdistill.models.registry import register_adaptation_module

    def_logger.setLevel(logging.WARNING)
    (stage,) = phase.train
    (frozen, trained), adapter = steps.paths_before_and_in(distiller, stage), distiller.adapter_of(stage)
    loss = distiller.mimic_loss_of(stage)
    register_low_level_loss(key='by hand')(lambda: ByHand(steps.loss_by_hand(loss)))
    register_adaptation_module(key='adapter of mmsskd')(lambda: adapter.levels[0])
    output = dict(module_path='.', io='output')
    optimizer = dict(phase.optim_wrapper['optimizer'])
    config = dict(
        num_epochs=1,
        teacher=dict(
            sequential=steps.paths_of(distiller.teacher, distiller.teacher_stages[stage].tap),
            forward_proc='forward_batch_only',
            requires_grad=False,
        ),
        student=dict(
            sequential=[*frozen, *trained, *(['+adapter'] if adapter else [])],
            adaptations=dict(adapter=dict(key='adapter of mmsskd', kwargs={})),
            frozen_modules=frozen,
            forward_proc='forward_batch_only',
        ),
        optimizer=dict(key=optimizer.pop('type'), kwargs=optimizer),
        criterion=dict(
            key='WeightedSumLoss',
            kwargs=dict(
                sub_terms=dict(
                    mimic=dict(
                        criterion=dict(key='by hand', kwargs={}),
                        criterion_wrapper=dict(
                            key='SimpleLossWrapper',
                            kwargs=dict(
                                input=dict(output, is_from_teacher=False), target=dict(output, is_from_teacher=True)
                            ),
                        ),
                        weight=loss.loss_weight,
                    )
                )
            ),
        ),
    )
    device = next(distiller.student.parameters()).device
    box = DistillationBox(distiller.teacher, distiller.student, {}, config, device, None, False, 1)
    normalize = steps.normalize_by_hand(distiller.data_preprocessor)

    def step(batch):
        loss = box.forward_process(normalize(batch['inputs']))
        box.post_forward_process(loss)
        return {'loss': loss.detach()}

    return step, distiller
