"""docs/from_scratch.md: the script on the page runs, and the package computes what it computes."""

import contextlib
import io
import json
import re
import runpy

import pytest
import torch
from helpers import ROOT
from helpers import train as run
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, FUNCTIONS, MODELS
from torch.nn import functional as F

pytestmark = pytest.mark.slow

STEPS, BATCH = 4, 16  # of each phase
PAGE = (ROOT / 'docs/from_scratch.md').read_text()


@pytest.fixture(scope='module')
def by_hand(tmp_path_factory):
    """What the script on the page has defined once it has run, and what it has printed."""
    (text,) = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    path = tmp_path_factory.mktemp('page') / 'from_scratch.py'
    path.write_text(text)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        names = runpy.run_path(str(path), run_name='__main__')
    return names | dict(printed=printed.getvalue())


@MODELS.register_module()
class NetByHand(BaseModel):
    """The network of the script as a model of MMEngine: its stages are the backbone."""

    net: type  # the class of the script

    def __init__(self, depth: int, data_preprocessor: dict | None = None):
        super().__init__(data_preprocessor)
        net = self.net(depth)
        self.backbone, self.head = net.stages, net.head

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.head(self.extract_feat(inputs).mean((2, 3)))
        return dict(loss=F.cross_entropy(logits, data_samples)) if mode == 'loss' else logits


@DATASETS.register_module()
class BatchesByHand(torch.utils.data.TensorDataset):
    """The images and labels of the batches, one after another."""

    def __init__(self, path: str):
        super().__init__(*torch.load(path))

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return dict(inputs=image, data_samples=label)


@FUNCTIONS.register_module()
def stacked(samples: list[dict]) -> dict:
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}


def names_of_the_package(net) -> dict:
    return {name.replace('stages.', 'backbone.', 1): value for name, value in net.state_dict().items()}


def test_script_of_the_page_runs_and_its_student_learns(by_hand):
    teacher, *stages, student = by_hand['printed'].splitlines()
    assert len(stages) == 3 and all(re.match(r'stage \d: loss', line) for line in stages)
    assert all(float(re.search(r': ([\d.]+) %', line)[1]) > 90 for line in (teacher, student)), by_hand['printed']


def test_package_computes_what_the_script_computes(by_hand, tmp_path, monkeypatch):
    """From the same weights, on the same batches: every loss, and every weight at the end."""
    monkeypatch.setattr(NetByHand, 'net', by_hand['Net'], raising=False)
    images, labels = by_hand['train_images'][: STEPS * BATCH], by_hand['train_labels'][: STEPS * BATCH]
    torch.save((images, labels), tmp_path / 'batches.pth')
    batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    torch.manual_seed(0)
    teacher, student = by_hand['teacher'], by_hand['Net'](2)
    torch.save(names_of_the_package(teacher), tmp_path / 'teacher.pth')
    torch.save(names_of_the_package(student), tmp_path / 'student.pth')

    expected = [loss for k in range(3) for loss in by_hand['follow'](student, teacher, k, batches)]
    expected += by_hand['learn'](student, student.head, batches)

    adam = dict(optimizer=dict(type='Adam', lr=by_hand['lr']))
    recipe = dict(epochs=1, optim_wrapper=adam, param_scheduler=[])
    cfg = Config(
        dict(
            work_dir=str(tmp_path / 'work'),
            model=dict(
                type='mmsskd.StagewiseDistiller',
                teacher=dict(type='NetByHand', depth=3),
                teacher_checkpoint=str(tmp_path / 'teacher.pth'),
                student=dict(type='NetByHand', depth=2),
                student_checkpoint=str(tmp_path / 'student.pth'),
                input_shape=(1, 8, 8),
            ),
            train_dataloader=dict(
                batch_size=BATCH,
                num_workers=0,
                dataset=dict(type='BatchesByHand', path=str(tmp_path / 'batches.pth')),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='stacked'),
            ),
            optim_wrapper=adam,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                stage_schedule=dict(
                    type='mmsskd.StageScheduleHook', phases='sskd_literal', transfer=recipe, head=dict(recipe)
                ),
            ),
            log_processor=dict(window_size=1),
            log_level='WARNING',
        )
    )
    found = run(cfg).model.student.state_dict()

    lines = [json.loads(line) for line in next((tmp_path / 'work').glob('*/vis_data/scalars.json')).open()]
    assert [line['loss'] for line in lines] == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        dict(found), names_of_the_package(student), rtol=1e-4, atol=1e-5
    )  # Adam magnifies rounding
