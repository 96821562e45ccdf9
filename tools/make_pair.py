#!/usr/bin/env python
"""Write the config of a pair from two configs of mmdet or mmpretrain, and print its stages.

What a run needs beside the student's own config is worked out and printed: what to unfreeze, the image size, the phases, the
learning rates of the head, when EMA begins. Neither weights nor data are needed.
"""

import os
from pathlib import Path

from mmengine.config import Config

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import plain_errors
from mmsskd.compare.schedule import set_epochs
from mmsskd.distill.build import build_model, read_config_at, resolve_model_cfg, teacher_weights, without_init
from mmsskd.distill.network.pairing import Pairing, thawing
from mmsskd.distill.teacher import give_own_input
from mmsskd.errors import ConfigError
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.files import write_text
from mmsskd.utils.quiet import warnings_alone
from mmsskd.utils.tables import text_table
from mmsskd.visualization.stage_table import COLUMNS, stage_table

TRANSFER = 1  # epochs of each stage, of a run of twelve


def main():
    pair = 'mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py mmdet::gfl/gfl_r50_fpn_1x_coco.py pair.py'
    parser = ToolParser(__doc__, f'python tools/make_pair.py {pair}')
    parser.add_argument('teacher', help="config of the teacher, such as 'mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py'")
    parser.add_argument('student', help='config of the student; the run takes its data and schedule')
    parser.add_argument('out', help='new config file to write, ends in .py')
    stages = 'modules of the student that end a stage; default: as tools/print_stages.py shows'
    parser.add_argument('--stages', nargs='+', metavar='PATH', help=stages)
    parser.add_argument('--teacher-stages', nargs='+', metavar='PATH', help='the same of the teacher, where it differs')
    args = parser.parse_args()
    if Path(args.out).suffix != '.py' or Path(args.out).exists():
        raise ConfigError(f'OUT must be a new file that ends in .py, found {args.out!r}')
    text, table, said = make_pair(args.teacher, args.student, args.stages, args.teacher_stages, Path(args.out).parent)
    write_text(Path(args.out), text)
    Config.fromfile(args.out)
    print(text_table(table, '<'))
    for line in said:
        print(line)
    print(f'written to {args.out}; tools/train.py {args.out} trains it')


def make_pair(
    teacher_path: str,
    student_path: str,
    names: list[str] | None = None,
    teacher_names: list[str] | None = None,
    folder: str | Path = '.',
) -> tuple[str, list[list[str]], list[str]]:
    """The text of the config, the table of its stages, and what was derived, a line each.

    Args:
        teacher_path: Config of the teacher, from the working directory.
        student_path: That of the student.
        names: Modules of the student that end a stage.
        teacher_names: The same of the teacher.
        folder: Where the config will be; the path of a base counts from there.

    Raises:
        ConfigError: One of the configs cannot be read, or the two cannot be paired.
    """
    run = read_config_at(student_path, 'student')
    said: list[str] = []
    shape, student_spec = input_shape(run), dict(cfg_path=student_path)
    student = _build(student_spec)
    changes = thawing(student)
    if changes:
        options = ', '.join(f'{key}={value!r}' for key, value in changes.items())
        said.append(f'the student trains whole: its backbone gets {options}')
        student_spec['backbone'] = changes
        student = _build(student_spec)
    teacher_spec = dict(cfg_path=teacher_path, pretrained=True)
    try:
        path, _ = teacher_weights(teacher_spec, resolve_model_cfg(teacher_spec, 'teacher'), None)
        said.append(f'weights of the teacher: {path}')
    except ConfigError:
        teacher_spec.pop('pretrained')
        said.append('no model zoo names weights of the teacher: set model.teacher_checkpoint')
    teacher_cfg = resolve_model_cfg(teacher_spec, 'teacher')
    teacher = build_model(without_init(teacher_cfg), 'model.teacher')
    give_own_input(teacher, teacher_cfg, student)
    named = {key: value for key, value in (('stages', names), ('teacher_stages', teacher_names)) if value}
    rows = stage_table(student, teacher, Pairing(input_shape=shape, **named))
    stages = len(rows) - 1

    model = dict(_delete_=True, type='mmsskd.StagewiseDistiller', _scope_=run.get('default_scope', 'mmengine'))
    model |= dict(teacher=teacher_spec, student=student_spec, input_shape=shape, **named)
    schedule, more = phases(run, stages, said)
    parts = dict(model=model, default_hooks=dict(stage_schedule=schedule), **more)
    base = student_path if '::' in student_path else os.path.relpath(student_path, folder)
    lines = [f'# Stage by stage: {teacher_path} teaches {student_path}.', f'_base_ = [{base!r}]', '']
    table = [list(COLUMNS), *(list(row.values()) for row in rows)]
    return '\n'.join(lines) + '\n' + Config(parts).pretty_text, table, said


def _build(student_spec: dict):
    return build_model(without_init(resolve_model_cfg(student_spec, 'student')), 'model.student')


def input_shape(run: Config) -> tuple[int, int, int]:
    """(channels, height, width) of an image: as the last transform that crops or resizes gives it to a classifier, or to a detector
    whose images are all of one size (SSD); else of 224."""
    size = 32 if 'CIFAR' in str((run.get('train_dataloader') or {}).get('dataset', {}).get('type')) else 224
    pipeline = (run.get('test_dataloader') or {}).get('dataset', {}).get('pipeline') or ()
    steps = [step for step in pipeline if run.get('default_scope') == 'mmpretrain' or step.get('keep_ratio') is False]
    sizes = [step.get('crop_size', step.get('scale')) for step in steps]
    found = next((each for each in reversed(sizes) if each), size)
    width, height = found if isinstance(found, (tuple, list)) else (found, found)
    return (run.model.get('backbone') or {}).get('in_channels', 3), height, width


def phases(run: Config, stages: int, said: list[str]) -> tuple[dict, dict]:
    """The schedule hook for a run of as many epochs as the student's own, and what else of the run must follow."""
    loop = run.get('train_cfg') or {}
    unit, total = ('epochs', loop['max_epochs']) if loop.get('max_epochs') else ('iters', loop.get('max_iters'))
    if not total or total <= stages:
        raise ConfigError(f'train_cfg of the student has {total} {unit}, too few for {stages} stages and a head')
    each = max(round(total * TRANSFER / 12), 1)
    each = each if each * stages < total else 1
    head: dict = {unit: total - each * stages}
    more: dict = {}
    begin = each * stages
    said.append(
        f'{total} {unit}, as many as the student takes: {each} for each of {stages} stages, {total - begin} for the head'
    )
    if run.get('param_scheduler') and unit == 'epochs':
        plain = Config(dict(train_cfg=dict(loop), param_scheduler=run.param_scheduler, model=dict(type='plain')))
        set_epochs(plain, [total - begin])
        head['param_scheduler'] = [dict(each) for each in plain.param_scheduler]
        said.append('the learning rate of the head follows that of the student, in its own epochs')
    hooks = run.get('custom_hooks') or []
    averaging = [hook for hook in hooks if str(hook.get('type')).rpartition('.')[2] == 'EMAHook']
    if averaging:
        key = 'begin_epoch' if unit == 'epochs' else 'begin_iter'
        more['custom_hooks'] = [dict(hook, **({key: begin + 1} if hook in averaging else {})) for hook in hooks]
        said.append(f'EMA averages the phases that learn the task: {key}={begin + 1}')
    transfer = {unit: each, 'optim_wrapper': dict(optimizer=dict(type='Adam', lr=0.001))}
    return dict(type='mmsskd.StageScheduleHook', transfer=transfer, head=head), more


if __name__ == '__main__':
    with plain_errors(), warnings_alone():
        main()
