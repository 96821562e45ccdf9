"""The demo's second task: a Faster R-CNN that finds handwritten digits on photos."""

from pathlib import Path

import numpy as np
import torch
from demo_steps import ROOT, TEACHER, Result, Task, last_checkpoint
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmsskd.datasets.digits_on_photos import write_digits_on_photos
from mmsskd.distill.build import build_model, load_strictly
from mmsskd.distill.export import plain_config
from mmsskd.distill.phases import is_stagewise
from mmsskd.visualization.history import read_history
from mmsskd.visualization.plots import detections
from mmsskd.visualization.report import Report
from mmsskd.visualization.sections import add_phases, add_stages
from mmsskd.visualization.stage_table import short

DATA = Path('data/digits_on_photos')
LEAST_GAP = 3.0  # points of AP
SHOWN = 5  # validation images in the report
FEW = 'plain student, boxes on 80 images'
THRESHOLD = 0.5  # score from which a box is drawn


def prepare() -> None:
    """Write the data set; one that is there, of whatever size, is used as it is."""
    if not (DATA / 'info.json').is_file():
        print(f'writing digits on photos to {DATA}', flush=True)
        write_digits_on_photos(DATA)


def forward(model) -> object:
    """Detect on an image of 160x160 pixels."""
    from mmdet.structures import DetDataSample

    shape = (160, 160)
    sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)))
    return model.test_step(dict(inputs=[torch.zeros(3, *shape, dtype=torch.uint8)], data_samples=[sample]))


def plain_of(config: str) -> Config:
    """The config of the model alone."""
    cfg = Config.fromfile(ROOT / 'configs' / config)
    return plain_config(cfg) if is_stagewise(cfg) else cfg


@torch.no_grad()
def boxes_of(results: list[Result]) -> tuple[list[np.ndarray], dict[str, list[tuple]], tuple[str, ...]]:
    """The first validation images, and for the truth and each network the boxes, labels and scores on each of them."""
    cfg = plain_of(TASK.arms[0][1])
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        items = [dataset[i] for i in range(min(SHOWN, len(dataset)))]
        truth = [item['data_samples'].gt_instances for item in items]
        rows = {'truth': [(t.bboxes.tensor.numpy(), t.labels.numpy(), np.ones(len(t.labels))) for t in truth]}
        for (name, config, _), result in zip(TASK.arms, results):
            model = build_model(plain_of(config).model).eval()
            load_strictly(model, str(last_checkpoint(result.work_dir)), name)
            rows[name] = []
            for item in items:
                (sample,) = model.test_step({key: [value] for key, value in item.items()})
                found = sample.pred_instances[sample.pred_instances.scores >= THRESHOLD].numpy()
                rows[name].append((found.bboxes, found.labels, found.scores))
    images = [item['inputs'].permute(1, 2, 0).numpy()[..., ::-1] for item in items]
    return images, rows, dataset.metainfo['classes']


def write_report(path: Path, results: list[Result], rows: list[list[str]]) -> None:
    run = results[2]
    history = read_history(run.work_dir, last_checkpoint(run.work_dir).name)
    report = Report('Stage by stage: digits on photos')
    report.text(
        f'A Faster R-CNN ({short(results[0].parameters)} parameters) learns to find handwritten digits on photos. Then a student '
        f'with a shorter backbone ({short(run.parameters)} parameters) is trained plainly, and another by the recipe of '
        'docs/results.md: it starts from the weights of the teacher, the four stages of the backbone and the FPN follow the '
        'feature maps of the teacher without a single box, then everything learns from the boxes too. The same again where only '
        '80 of the 800 images have boxes. All students take the same number of iterations.'
    )
    report.table('Results on the validation images', TASK.columns, rows)
    report.text(
        'AP: COCO average precision over IoU 0.50 to 0.95 on the validation images, which share no digit and no part of a photo '
        'with the training images; one seed, last epoch. Gap closed: (student - plain) / (teacher - plain), where teacher and '
        f'plain student are at least {LEAST_GAP:.0f} points apart; otherwise the gap itself. Seconds: the whole command.'
    )
    add_stages(report, history, 'the validation images')
    add_phases(report, history.phases)
    report.heading('What the networks find')
    images, found, classes = boxes_of(results)
    report.figure(
        detections(images, found, classes),
        f'The first validation images; boxes with a score of at least {THRESHOLD}. A color is a class.',
        f'Grid of {len(images)} photos for the truth and each network, with the boxes that it draws.',
        ['boxes on', *(f'image {i + 1}' for i in range(len(images)))],
        [[name, *(str(len(boxes)) for boxes, *_ in each)] for name, each in found.items()],
    )
    report.write(path)


TASK = Task(
    arms=[
        (TEACHER, 'plain/digits_on_photos_r34_w16.py', None),
        ('plain student', 'plain/digits_on_photos_r18_w16.py', None),
        ('recommended', 'sskd/digits_on_photos_r34_r18_w16.py', 'plain student'),
        (FEW, 'plain/digits_on_photos_r18_w16_few_labels.py', None),
        ('recommended, boxes on 80 images', 'sskd/digits_on_photos_r34_r18_w16_few_labels.py', FEW),
    ],
    metric='coco/bbox_mAP',
    label='AP',
    scale=100.0,
    least_gap=LEAST_GAP,
    forward=forward,
    write_report=write_report,
    prepare=prepare,
)
