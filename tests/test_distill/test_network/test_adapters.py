"""Batch normalization after the adapters: it moves with its stage, to the bit in no other phase, and is not exported."""

import torch
from distill_helpers import IMAGES, build, phase
from helpers import classifier, run_cfg, same, train, weights


def test_norm_of_an_adapter_moves_with_its_stage_only(teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=1))
    convolution, norm = model.adapters['layer2'].levels[0]
    assert convolution.bias is None and norm.num_features == 16
    for part, moves in (('layer2', True), ('layer1', False), ('head', False)):
        phase(model, train=part).train()
        assert [m.training for m in (convolution, norm)] == [moves] * 2, part
        assert norm.weight.requires_grad is moves
    phase(model, train='layer1', mimic='layer2').train()  # through the adapter, without moving it
    before = {name: value.clone() for name, value in model.adapters.state_dict().items()}
    model(IMAGES, None, mode='loss')['loss_mimic_layer2'].backward()
    assert same(before, model.adapters.state_dict()) and model.student.backbone.conv1.weight.grad is not None
    phase(model, train='layer2').train()
    losses = model(IMAGES, None, mode='loss')
    feature = model.student.backbone.layer2
    assert norm.num_batches_tracked == 1 and feature.training and torch.isfinite(losses['loss_mimic_layer2'])


def test_normed_adapters_of_a_run(tmp_path, teacher_path):
    """Each moves in its own phase, to the bit in no other, and is not exported."""
    cfg = run_cfg(tmp_path, teacher_path, student=classifier(depth=8, width=1))
    runner = train(cfg)
    ends = [weights(tmp_path / f'phase{i}_layer{i}.pth') for i in (1, 2, 3)]
    for first, second, moved in ((ends[0], ends[1], 'layer2'), (ends[1], ends[2], 'layer3')):
        names = {
            name.split('.')[1] for name in first if 'adapters' in name and not torch.equal(first[name], second[name])
        }
        assert names == {moved}
    assert same(ends[2], runner.model.state_dict(), [name for name in ends[2] if 'adapters' in name])
    assert any('adapters' in name and 'running_var' in name for name in ends[2])
    assert not any('adapters' in name for name in weights(tmp_path / 'student.pth'))


def test_norm_of_tokens_and_vectors():
    from mmsskd.distill.network.pairing import FeatureAdapter

    for shape in ((7, 4), (4,)):
        adapter = FeatureAdapter([shape], [(*shape[:-1], 6)], norm=True)
        (out,) = adapter([torch.randn(5, *shape)])
        assert out.shape == (5, *shape[:-1], 6)
        flat = out.flatten(0, -2)
        torch.testing.assert_close(flat.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
        torch.testing.assert_close(flat.var(0, unbiased=False), torch.ones(6), rtol=1e-2, atol=0)
        synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(adapter).eval()  # as a run with sync_bn does
        assert synced([torch.randn(5, *shape)])[0].shape == out.shape
