#!/usr/bin/env python
"""Print how teacher and student are cut into stages: modules, parameters, feature shapes, adapters and MACs.

Neither weights nor data are needed.
"""

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, plain_errors, read_config
from mmsskd.distill.network.pairing import Pairing
from mmsskd.distill.phases import is_stagewise
from mmsskd.errors import ConfigError
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.quiet import warnings_alone
from mmsskd.utils.tables import text_table
from mmsskd.visualization.stage_table import COLUMNS, stage_table


def main():
    parser = ToolParser(__doc__, 'python tools/print_stages.py configs/sskd/faster_rcnn_r101_r50.py')
    parser.add_argument('config', help='config of a stage-by-stage run')
    add_common_arguments(parser)
    args = parser.parse_args()
    cfg = read_config(args, whole=False)
    if not is_stagewise(cfg):
        raise ConfigError(f'{args.config}: model.type must be mmsskd.StagewiseDistiller, found {cfg.model.get("type")}')
    rows = stage_table(*Pairing.built(cfg))
    print(text_table([COLUMNS, *(list(row.values()) for row in rows)], '<'))


if __name__ == '__main__':
    with plain_errors(), warnings_alone():
        main()
