"""One file of a model: detectors on a photo, and what is compared before a file gets its name."""

import pytest
import torch
from test_utils.test_detections import make, photo, predicted

from mmsskd.errors import ConfigError
from mmsskd.utils import portable
from mmsskd.utils.portable import write_portable


def opened(path: str):
    """What computes with a file."""
    if path.endswith('.pt2'):
        return torch.export.load(path).module()
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])

    def run(images, size):
        found = session.run(['boxes', 'scores', 'labels'], {'input': images.numpy(), 'size': size.numpy()})
        return [torch.from_numpy(each) for each in found]

    return run


class Pyramid(torch.nn.Module):
    """In place of backbone and neck, which take the exporter long."""

    def __init__(self, levels):
        super().__init__()
        self.sizes = [each.shape[-2:] for each in levels]
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(3, each.shape[1], 1) for each in levels)

    def forward(self, images):
        pooled = [torch.nn.functional.adaptive_avg_pool2d(images, size) for size in self.sizes]
        return tuple(layer(each) for layer, each in zip(self.layers, pooled))


@pytest.mark.slow
@pytest.mark.parametrize('kind, suffix', [('YOLOX', 'onnx'), ('GFL', 'onnx'), ('Cascade R-CNN', 'pt2')])
def test_the_file_of_a_detector_finds_what_it_finds(kind, suffix, photos, tmp_path, monkeypatch):
    pytest.importorskip('onnxscript')
    model = make(kind)
    images, size = photo(photos, model)
    torch.manual_seed(0)
    with torch.no_grad():
        monkeypatch.setattr(model, 'extract_feat', Pyramid(model.extract_feat(images)).forward)
    expected = predicted(model, images, size)
    path = str(tmp_path / f'student.{suffix}')
    write_portable(model, path, images.shape[1:])
    boxes, scores, labels = opened(path)(images, size)
    there = scores > 0
    assert len(expected) >= 10
    assert there.sum() == len(expected)
    rows = expected.bboxes, expected.scores, expected.labels
    assert portable._gap_of_detections(rows, (boxes, scores, labels)) < portable.TOLERANCE


def test_detections_are_compared_one_by_one():
    generator = torch.Generator().manual_seed(0)
    boxes, scores = torch.rand(40, 4, generator=generator) * 100, torch.rand(40, generator=generator)
    labels = torch.arange(40) % 3
    gap = portable._gap_of_detections
    order = torch.randperm(40, generator=generator)
    assert gap((boxes, scores, labels), (boxes[order], scores[order], labels[order])) == 0
    assert gap((boxes, scores, labels), (boxes + 0.02, scores, labels)) > portable.TOLERANCE
    assert gap((boxes, scores, labels), (boxes, scores + 0.002, labels)) > portable.TOLERANCE
    assert gap((boxes, scores, labels), (boxes, scores, labels + 1)) > portable.TOLERANCE
    assert gap((boxes, scores, labels), (boxes, scores * 0, labels)) == float('inf')
    assert gap((boxes, scores * 0, labels), (boxes, scores * 0, labels)) == 0


class Twice(torch.nn.Module):
    """A classifier in form."""

    def forward(self, images, mode):
        return images.mean((2, 3)) * 2


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    path = str(tmp_path / 'student.pt2')
    assert write_portable(Twice().eval(), path, (3, 4, 4)) == 0
    found = torch.export.load(path).module()(torch.ones(5, 3, 4, 4))
    assert torch.equal(found, torch.full((5, 3), 2.0))
    monkeypatch.setattr(portable, 'TOLERANCE', 0.0)
    with pytest.raises(ConfigError, match='the exported program differ by 0.0e.*student.pt2 was not written'):
        write_portable(Twice().eval(), path, (3, 4, 4))
    assert [file.name for file in tmp_path.iterdir()] == ['student.pt2']


class Sometimes(torch.nn.Module):
    """What torch cannot export: what is computed depends on the image."""

    def forward(self, images, mode):
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


def test_what_torch_cannot_export_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match='^torch cannot export Sometimes: .*student.pt2 was not written.*$'):
        write_portable(Sometimes().eval(), str(tmp_path / 'student.pt2'), (3, 4, 4))
    assert not list(tmp_path.iterdir())


def test_a_model_of_two_tensors_that_is_no_detector_is_refused(tmp_path):
    model = torch.nn.Module()
    model.forward = lambda images, mode: (images, images)
    with pytest.raises(ConfigError, match='Module does not give one tensor, .* and is no detector'):
        write_portable(model, str(tmp_path / 'student.pt2'), (3, 4, 4))
