"""The options by which the tools under ``tools/face`` name a protocol."""

import argparse

from ....errors import ConfigError
from ..protocol import PairProtocol, TemplateProtocol
from .ijba import read_ijba
from .ijbc import read_ijbc
from .insightface import read_insightface
from .lfw import read_lfw_pairs
from .template_csv import read_templates

OUTSIDE = dict(allow_outside='allow_outside')
# kind: its reader, and what the reader calls the options that it takes
KINDS = {
    'ijba': (read_ijba, dict(images='images', landmarks='landmarks', splits='splits', **OUTSIDE)),
    'ijbc': (read_ijbc, dict(images='images', landmarks='landmarks', **OUTSIDE)),
    'insightface': (read_insightface, dict(name='name', **OUTSIDE)),
    'templates': (
        read_templates,
        dict(images='root', landmarks='landmarks', pairs='pairs', gallery='gallery', probes='probes', **OUTSIDE),
    ),
    'lfw': (read_lfw_pairs, dict(landmarks='landmarks', suffix='suffix', **OUTSIDE)),
}
OPTIONS = ('images', 'landmarks', 'splits', 'name', 'pairs', 'gallery', 'probes', 'suffix', 'allow_outside')


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name one protocol, for :func:`protocol_from_args`."""
    which = parser.add_argument_group('the protocol, one of').add_mutually_exclusive_group(required=True)
    which.add_argument('--ijba', metavar='ROOT', help="IJB-A in NIST's layout")
    which.add_argument('--ijbc', metavar='ROOT', help="IJB-C or IJB-B in NIST's layout")
    which.add_argument('--insightface', metavar='ROOT', help="IJB-C or IJB-B in InsightFace's text form, with --name")
    which.add_argument(
        '--templates', metavar='CSV', help='templates of your own, with --pairs or --gallery and --probes'
    )
    which.add_argument(
        '--lfw', nargs=2, metavar=('PAIRS', 'IMAGES'), help='a pairs.txt such as that of LFW, and the images'
    )
    more = parser.add_argument_group('about the protocol')
    more.add_argument('--images', metavar='FOLDER', help='folder of the images, where it is not the usual one')
    more.add_argument(
        '--landmarks', metavar='CSV', help='five points for each face: KEY or FILE,SIGHTING_ID, x1,y1,...,x5,y5'
    )
    more.add_argument('--splits', nargs='+', type=int, metavar='N', help='of IJB-A; default: all ten')
    more.add_argument('--name', choices=['IJBC', 'IJBB'], help='of --insightface; default: IJBC')
    more.add_argument('--pairs', metavar='CSV', help='of --templates: two TEMPLATE_IDs a line, no header')
    more.add_argument('--gallery', metavar='CSV', help='of --templates: who is known, a column TEMPLATE_ID')
    more.add_argument('--probes', metavar='CSV', help='of --templates: who is searched, a column TEMPLATE_ID')
    more.add_argument('--suffix', metavar='.EXT', help='of --lfw: the ending of the image files; default: .jpg')
    more.add_argument(
        '--allow-outside',
        action='store_true',
        default=None,
        help='image files may be absolute or have .. in them: only for lists that you trust',
    )


def protocol_from_args(args: argparse.Namespace) -> TemplateProtocol | PairProtocol:
    """The protocol that the command line names.

    Raises:
        ConfigError: An option that the chosen protocol does not have, or what its reader raises.
    """
    kind = next(kind for kind in KINDS if getattr(args, kind) is not None)
    reader, known = KINDS[kind]
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    for name in given:
        if name not in known:
            allowed = ', '.join(f'--{option}'.replace('_', '-') for option in known)
            raise ConfigError(f'--{name} does not belong to --{kind}, which takes {allowed}; remove it')
    source = getattr(args, kind)
    options = {known[name]: value for name, value in given.items()}
    return reader(*(source if isinstance(source, list) else [source]), **options)
