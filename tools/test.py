#!/usr/bin/env python
"""Evaluate a student on the test set, from a checkpoint of its run or exported.

Any other MMEngine config works too. The checkpoint must have exactly the weights of the model.
"""

from mmengine.dist import is_main_process
from mmengine.runner import Runner

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, end_processes, plain_errors, read_config, start_processes
from mmsskd.distill.build import load_strictly, predicts_nothing, read_checkpoint, resolve_model_cfg, teacher_weights
from mmsskd.distill.export import plain_config
from mmsskd.distill.phases import is_stagewise
from mmsskd.distill.schedule.data_checks import check_loops, find_data_error, other_classes
from mmsskd.distill.schedule.validation import show
from mmsskd.errors import ConfigError
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.coco_list import keeping_lists


def parse_args():
    parser = ToolParser(__doc__, 'python tools/test.py work_dirs/mine/student.py work_dirs/mine/student.pth')
    parser.add_argument('config', help='config file of the run, or the exported student.py')
    parser.add_argument('checkpoint', help='checkpoint of the run, or the exported student.pth')
    parser.add_argument('--teacher', action='store_true', help='also evaluate the teacher of the config')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to this file')
    add_common_arguments(parser)
    return parser.parse_args()


def evaluate(cfg, checkpoint: str, key: str, out: str | None = None) -> dict | str:
    """Metrics of the plain model of ``cfg`` with the weights at ``checkpoint``; of a teacher of other classes, that it is one."""
    if out:
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        cfg.test_evaluator = [*evaluators, dict(type='DumpResults', out_file_path=out)]
    cfg.load_from, cfg.resume = None, False
    runner = Runner.from_cfg(cfg)
    model = getattr(runner.model, 'module', runner.model)
    load_strictly(model, checkpoint, key)
    with keeping_lists():
        try:
            dataset = runner.test_loop.dataloader.dataset
        except Exception as error:
            problem = find_data_error(cfg, error)
            if problem is None:
                raise
            raise ConfigError(problem) from error
        check_loops(runner, checkpoint=read_checkpoint(checkpoint, key))
    reason = predicts_nothing(model) or other_classes(model, dataset)
    if reason is not None and key != 'model.teacher_checkpoint':
        raise ConfigError(f'{checkpoint} cannot be measured on the test set: {reason}')
    return runner.test() if reason is None else reason


def main():
    args = parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise ConfigError(f'--out must end in .pkl, found {args.out!r}')
    cfg = read_config(args)
    start_processes(cfg)
    if not cfg.get('test_dataloader'):
        raise ConfigError(f'{args.config} has no test_dataloader, test_evaluator and test_cfg: nothing to test on')
    if args.teacher and not is_stagewise(cfg):
        raise ConfigError(f'--teacher: {args.config} is not the config of a stage-by-stage run, it names no teacher')
    results = {}
    if args.teacher:
        teacher = cfg.model.teacher
        path, _ = teacher_weights(teacher, resolve_model_cfg(teacher, 'teacher'), cfg.model.get('teacher_checkpoint'))
        results['teacher'] = (
            'it brings its weights itself; a run measures it where it can'
            if path is None
            else evaluate(plain_config(cfg, 'teacher'), path, 'model.teacher_checkpoint')
        )
    plain = plain_config(cfg, 'student') if is_stagewise(cfg) else cfg
    results['student'] = evaluate(plain, args.checkpoint, 'checkpoint', args.out)
    if is_main_process():
        for name, metrics in results.items():
            shown = f'not measured, {metrics}' if isinstance(metrics, str) else show(metrics)
            print(f'{name}: {shown}')
    end_processes()


if __name__ == '__main__':
    with plain_errors():
        main()
