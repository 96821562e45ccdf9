"""Golden numbers: a fixed-seed run on the CPU gives the losses it always gave, stage by stage.

After a change that is meant to alter the numbers: print ``losses_of`` and say in the commit why they moved.
"""

import json

import pytest
from helpers import classifier, on_cpu, run_cfg, train

EPOCHS = 6  # of three iterations; the last loss of each
GOLDEN = {
    'loss_mimic_layer1': [8.117689, 6.256883, 5.563114, 4.912769, 4.753366, 4.798503],
    'loss_mimic_layer2': [11.521664, 9.567647, 7.271781, 6.775292, 6.620971, 6.714362],
    'loss_mimic_layer3': [6.182976, 4.573002, 3.963645, 3.271641, 3.013708, 3.077705],
    'loss': [2.302351, 2.298693, 2.279429, 2.270763, 2.273408, 2.252417],
}
KEPT = {
    'loss_mimic_layer1': GOLDEN['loss_mimic_layer1'],  # nothing is before it
    'loss_mimic_layer2': [11.036215, 8.84179, 6.486593, 5.898967, 5.827321, 5.958943],
    'loss_mimic_layer3': [5.806521, 4.093816, 3.387628, 2.769847, 2.407412, 2.559857],
    'loss': [2.302852, 2.293907, 2.281648, 2.255965, 2.275282, 2.240976],
}


def losses_of(work_dir) -> dict[str, list[float]]:
    """For each stage and the head, the loss of the last iteration of each epoch."""
    lines = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    found = {name: [line[name] for line in lines if name in line] for name in GOLDEN}
    for name in set(found) - {'loss'}:
        found[name] = found[name][: 3 * EPOCHS]  # of its own phase; where it is kept, others follow
    found['loss'] = found['loss'][-3 * EPOCHS :]
    return {name: values[2::3] for name, values in found.items()}


@on_cpu
@pytest.mark.parametrize(('phases', 'golden'), [('sskd_literal', GOLDEN), (None, KEPT)], ids=['literal', 'default'])
def test_losses_of_a_fixed_seed_run(tmp_path, teacher_path, phases, golden):
    """Adapters included."""
    cfg = run_cfg(tmp_path, teacher_path, student=classifier(depth=8, width=0.25))
    adam = dict(optimizer=dict(type='Adam', lr=0.1))
    cfg.default_hooks.stage_schedule.update(transfer=dict(epochs=EPOCHS, optim_wrapper=adam), head=dict(epochs=EPOCHS))
    cfg.default_hooks.stage_schedule.phases = phases
    cfg.model.adapter_norm = False  # what the numbers were taken with
    cfg.log_processor.window_size = 1
    train(cfg)
    found = losses_of(tmp_path)
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, rel=1e-3), f'{name}: {found[name]}'
        assert found[name][-1] < found[name][0]
