#!/usr/bin/env python
"""Print every table of a face evaluation from files of embeddings, of any framework.

Needs numpy, neither torch nor MMEngine.

A file is an .npz with `keys` (n,), the names of the faces (tools/face/list_faces.py lists them), and `features` (n, D); if you
like `features_flip` (n, D) of the mirrored crops and `detector_scores` (n,). Rows of NaN or zeros are failures to enrol.

With several files there is one table that compares them, after the tables of each.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # _run beside this file, however it was started

from _run import run

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.embeddings import read_embeddings
from mmsskd.face.evaluation.evaluate import evaluate_pairs, evaluate_templates
from mmsskd.face.evaluation.nist_output import write_nist_output
from mmsskd.face.evaluation.options import DEFAULTS, MEGABYTE, ROC_RULES, EvaluationOptions
from mmsskd.face.evaluation.protocol import PairProtocol, TemplateProtocol
from mmsskd.face.evaluation.protocols.arguments import add_protocol_arguments, protocol_from_args
from mmsskd.face.evaluation.protocols.files import is_whole
from mmsskd.face.evaluation.tables import compare_reports, format_report
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.files import write_text


def parse_args() -> argparse.Namespace:
    parser = ToolParser(
        __doc__,
        'python tools/face/eval_embeddings.py teacher=teacher.npz student=student.npz --ijba data/IJB-A --plots plots',
    )
    parser.add_argument(
        'embeddings', nargs='+', metavar='[NAME=]FILE.npz', help='named after the file where no name is given'
    )
    add_protocol_arguments(parser)
    numbers = parser.add_argument_group('which numbers')
    numbers.add_argument(
        '--fars',
        nargs='+',
        type=float,
        default=DEFAULTS.fars,
        metavar='RATE',
        help='false accept rates, of 1:1; default: %(default)s',
    )
    numbers.add_argument(
        '--fpirs',
        nargs='+',
        type=float,
        default=DEFAULTS.fpirs,
        metavar='RATE',
        help='false positive identification rates, of 1:N; default: %(default)s',
    )
    numbers.add_argument(
        '--ranks', nargs='+', type=int, default=DEFAULTS.ranks, metavar='N', help='ranks, of 1:N; default: %(default)s'
    )
    numbers.add_argument(
        '--tpir-rank',
        default=str(DEFAULTS.tpir_rank),
        metavar='N',
        help='rank that the mate must have in TPIR, or "any"; default: 1',
    )
    numbers.add_argument(
        '--roc-rule',
        choices=ROC_RULES,
        default=DEFAULTS.roc_rule,
        help='which points the ROC has; insightface: those of its own script; default: %(default)s',
    )
    pooling = parser.add_argument_group('pooling')
    pooling.add_argument('--no-flip', action='store_true', help='ignore features_flip')
    pooling.add_argument('--normalize', action='store_true', help='scale features to length 1 before they are pooled')
    pooling.add_argument('--detector-weights', action='store_true', help='multiply features by detector scores')
    pooling.add_argument(
        '--no-media', action='store_true', help='pool all faces of a template alike, whatever their media'
    )
    failures = parser.add_argument_group('failures')
    failures.add_argument(
        '--allow-missing', action='store_true', help='faces that a file lacks are failures to enrol, not an error'
    )
    failures.add_argument('--max-failures', type=int, metavar='N', help='stop if more faces than this fail to enrol')
    output = parser.add_argument_group('output')
    output.add_argument('--json', metavar='FILE', help='all numbers, split by split, by the name of the model')
    output.add_argument('--plots', metavar='FOLDER', help='ROC, DET, CMC and DIR as PNG and SVG; needs matplotlib')
    output.add_argument(
        '--matches', metavar='FOLDER', help="NIST's .matches and .candidate_lists, in a folder for each model"
    )
    parser.add_argument(
        '--memory',
        type=int,
        default=DEFAULTS.memory // MEGABYTE,
        metavar='MB',
        help='memory for temporary arrays; default: %(default)s',
    )
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> EvaluationOptions:
    rank = args.tpir_rank
    if rank != 'any' and not is_whole(rank):
        raise ConfigError(f"--tpir-rank: found {rank!r}; allowed: whole numbers from 1, or 'any'")
    return EvaluationOptions(
        flip=not args.no_flip,
        normalize_before_pooling=args.normalize,
        detector_weights=args.detector_weights,
        media_pooling=not args.no_media,
        roc_rule=args.roc_rule,
        fars=args.fars,
        fpirs=args.fpirs,
        ranks=args.ranks,
        tpir_rank=None if rank == 'any' else int(rank),
        max_failures=args.max_failures,
        memory=args.memory * MEGABYTE,
    )


def named_files(arguments: list[str]) -> dict[str, str]:
    """Files by the names of their models."""
    files = {}
    for argument in arguments:
        name, equals, path = argument.partition('=')
        if not equals or os.path.exists(argument):  # a file may have a = in its name
            name, path = Path(argument).stem, argument
        if not name or name in files or '/' in name:
            raise ConfigError(
                f'{argument!r}: give each file a name of its own, NAME=FILE.npz; taken: {", ".join(files) or "none"}'
            )
        files[name] = path
    return files


def evaluate(
    name: str,
    path: str,
    protocol: TemplateProtocol | PairProtocol,
    options: EvaluationOptions,
    args: argparse.Namespace,
) -> dict:
    """The report of one file of embeddings, which are in memory only while they are needed."""
    found = read_embeddings(path, protocol.faces, strict=not args.allow_missing)
    protocol = type(protocol)(**(vars(protocol) | dict(faces=found.faces)))
    pairs = isinstance(protocol, PairProtocol)
    report = (evaluate_pairs if pairs else evaluate_templates)(protocol, found.features, found.features_flip, options)
    report['embeddings'] = str(path)
    if found.missing:
        report['warnings'].append(f'{path} lacks {found.missing} faces, counted as failures to enrol')
    if found.extra:
        report['warnings'].append(f'{path} has {found.extra} faces that the protocol does not have')
    if args.matches and not pairs:
        write_nist_output(Path(args.matches) / name, protocol, found.features, found.features_flip, options)
    return report


def main() -> None:
    args = parse_args()
    files, options = named_files(args.embeddings), options_of(args)
    protocol = protocol_from_args(args)
    if args.matches and isinstance(protocol, PairProtocol):
        raise ConfigError('--matches: NIST has no such files for pairs of faces; remove it')
    reports = {}
    for name, path in files.items():
        reports[name] = evaluate(name, path, protocol, options, args)
        print(format_report(reports[name]).replace('### ', f'### {name} on ', 1))
    if len(reports) > 1:
        print(compare_reports(reports))
    if args.json:
        write_text(args.json, json.dumps(reports, indent=1, allow_nan=False))
    if args.plots:
        try:
            from mmsskd.face.plots import write_face_plots
        except ImportError as error:
            raise ConfigError(f'--plots needs matplotlib ({error}): pip install matplotlib') from error
        write_face_plots(reports, args.plots)


if __name__ == '__main__':
    run(main)
