"""The demo's first task: handwritten digits of which a tenth have labels, three seeds."""

from pathlib import Path

import torch
from demo_steps import ROOT, TEACHER, Result, Task, last_checkpoint
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

import mmsskd.utils.quiet  # noqa: F401  before a registry imports mmpretrain's data sets, which print
from mmsskd.distill.build import read_checkpoint
from mmsskd.distill.losses import AgreementMeter
from mmsskd.visualization.history import read_history
from mmsskd.visualization.plots import PREFIX, feature_maps
from mmsskd.visualization.report import Report
from mmsskd.visualization.sections import add_phases, add_stages
from mmsskd.visualization.stage_table import short

LEAST_GAP = 3.0  # 597 test images
SHOWN = 6  # of them in the report


def features_of(results: list[Result]):
    """The first test digits, the features that teacher and student give them at each stage, the student's adapted, and for each
    stage the relative error of all test digits, of the same checkpoint.
    """
    cfg = Config.fromfile(ROOT / 'configs' / TASK.arms[2][1])
    weights = {result.name: str(last_checkpoint(result.work_dir)) for result in results}
    model = dict(cfg.model, data_preprocessor=cfg.data_preprocessor, teacher_checkpoint=weights[TEACHER])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        distiller = MODELS.build(model).eval()
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    checkpoint = read_checkpoint(weights[TASK.arms[2][0]], TASK.arms[2][0])
    distiller.load_state_dict(checkpoint['state_dict'])
    images = torch.stack([item['inputs'] for item in dataset])
    inputs = distiller.data_preprocessor(dict(inputs=images), False)['inputs']
    features = distiller.compare(inputs, list(distiller.stages))
    student, teacher = ([pair[side][0][:SHOWN] for pair in features.values()] for side in (0, 1))
    errors = {name: AgreementMeter.of(*pair)[0].item() for name, pair in features.items()}
    return images[:SHOWN], dict(teacher=teacher, student=student), errors


def write_report(path: Path, results: list[Result], rows: list[list[str]]) -> None:
    run = results[2]
    history = read_history(run.work_dir, last_checkpoint(run.work_dir).name)
    report = Report('Stage by stage: handwritten digits with few labels')
    report.text(
        f'Of 1,200 images 120 have labels. The student ({short(run.parameters)} parameters) has {run.score:.1f} % stage by '
        f'stage, and {results[1].score:.1f} % trained plainly on the 120.'
    )
    report.table('Results on the test images', TASK.columns, rows)
    report.text(
        f'597 test images, last epoch; mean ± standard deviation of {len(run.scores)} seeds of the students, one teacher. Gap '
        f'closed: (student - plain) / (teacher - plain), where teacher and plain student are at least {LEAST_GAP:.0f} points '
        'apart; otherwise the gap itself. Seconds are those of one training, the whole command.'
    )
    report.text(
        f'The teacher ({short(results[0].parameters)} parameters) has learned from 1,200 labels. Stage by stage, one stage after '
        'the other follows its feature map on all images, those before it go on learning, without a single label; then the head '
        'alone learns from the 120. Both students take the same number of iterations. What follows is of the first seed.'
    )
    add_stages(report, history, 'the test images')
    add_phases(report, history.phases, 'The head takes more, but shorter, epochs.')
    report.heading('What teacher and student see')
    images, features, errors = features_of(results)
    report.figure(
        feature_maps(images, features, list(errors)),
        f'Mean over channels of the feature of each stage for {SHOWN} test digits, one color scale for each pair; the student '
        'after its adapter, which brings its channels to the number that the teacher has. The table has the error over all '
        'channels and all test images: of the checkpoint that is drawn, and where the curve above ends.',
        f'Grid of pictures: {SHOWN} digits, and under each the feature maps of teacher and student at {", ".join(errors)}.',
        ['stage', 'relative error drawn', 'relative error, end of curve'],
        [[stage, f'{error:.3f}', f'{history.last(PREFIX + stage):.3f}'] for stage, error in errors.items()],
    )
    report.write(path)


TASK = Task(
    arms=[
        (TEACHER, 'plain/digits_r14x2.py', None),
        ('plain student, 120 labels', 'plain/digits_r8_few_labels.py', None),
        ('stage by stage, 120 labels', 'sskd/digits_r14x2_r8_few_labels.py', 'plain student, 120 labels'),
    ],
    metric='accuracy/top1',
    label='accuracy, %',
    scale=1.0,
    least_gap=LEAST_GAP,
    forward=lambda model: model(torch.zeros(1, 1, 8, 8), mode='tensor'),
    write_report=write_report,
    seeds=3,
)
