"""Reports as tables for people, in Markdown: no number without k, N, threshold, realized rate, pooling and failures."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ...utils.labels import one_line
from .evaluate import far_label

BASIS = ('k', 'N', 'threshold', 'realized rate')
FEW = 10  # false accepts below which a rate is marked as resting on few


def format_report(report: dict) -> str:
    """A report of :func:`~mmsskd.face.evaluation.evaluate.evaluate_templates` or ``evaluate_pairs`` as text."""
    parts = [f'### {report["name"]}\n\n{_conditions(report)}']
    if report['kind'] == 'pairs':
        parts.append(_accuracy_table(report['accuracy']))
        parts.append(_points_table('TAR at FAR over all pairs', 'FAR', [('', report['pairs'])]))
    else:
        parts.append(_summary_table(report['summary']))
        checks = [(split['name'], split['verification']) for split in report['splits'] if 'verification' in split]
        searches = [
            (' '.join(filter(None, (split['name'], one['name']))), one)
            for split in report['splits']
            for one in split.get('identification', ())
        ]
        if checks:
            parts.append(_counts_table('1:1 lists', checks, _VERIFICATION_COUNTS))
            parts.append(_points_table('TAR at FAR, 1:1', 'FAR', checks))
        if searches:
            parts.append(_counts_table('1:N lists', searches, _SEARCH_COUNTS))
            parts.append(_ranks_table(searches))
            rank = report['options']['tpir_rank']
            mate = 'at any rank' if rank is None else 'at rank 1' if rank == 1 else f'among the best {rank}'
            parts.append(_points_table(f'TPIR at FPIR, 1:N, mate {mate}', 'FPIR', searches))
    parts += [f'Warning: {warning}' for warning in report['warnings']]
    return '\n\n'.join(part for part in parts if part) + '\n'


def compare_reports(reports: Mapping[str, dict]) -> str:
    """One table with a row for each model, for reports of one protocol, and whether they are of the same crops and options."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report['summary']))
    rows = [
        [model, *(_with_deviation(report['summary'].get(name)) for name in names), report['crop_hash'], _failed(report)]
        for model, report in reports.items()
    ]
    first = next(iter(reports.values()))
    lines = [_table(['model', *names, 'crops', 'failures to enrol'], rows)]
    over = max((value['over'] for value in first['summary'].values()), default=1)
    if over > 1:
        lines.append(f'In percent, mean ± std over {over} {"folds" if first["kind"] == "pairs" else "splits"}.')
    if len({report['crop_hash'] for report in reports.values()}) > 1:
        lines.append('**The models were not measured on the same faces, boxes and landmarks: compare with care.**')
    rates = [
        [model, name, _with_deviation(value), *_basis(value)]
        for model, report in reports.items()
        for name, value in report['summary'].items()
        if 'k' in value
    ]
    if rates:
        lines.append(_table(['model', 'rate', '%', *BASIS], rates))
        if any('*' in row[3] for row in rates):
            lines.append(f'\\* k below {FEW}: the number rests on fewer than {FEW} false accepts.')
    options = {model: _options(report) for model, report in reports.items()}
    if len(set(options.values())) == 1:
        lines.append(f'All: {options[next(iter(options))]}.')
    else:
        lines += ['**Options differ**:', *(f'- {model}: {text}' for model, text in options.items())]
    return '\n\n'.join(lines) + '\n'


def _conditions(report: dict) -> str:
    faces = report['faces']
    lines = [f'{_options(report)}.', f'Faces: {faces["count"]}, failures to enrol: {faces["failed"]}{_some(faces)}.']
    for key, text in (('failures_by_reason', 'Failures by reason'), ('aligned_by', 'Aligned by')):
        if faces.get(key):
            lines.append(f'{text}: ' + ', '.join(f'{name} {count}' for name, count in faces[key].items()) + '.')
    lines.append(f'Crops: {report["crop_hash"]}.')
    return '\n'.join(lines)


def _options(report: dict) -> str:
    options = report['options']
    words = [f'rule: {options["roc_rule"]}', f'flip: {_yes(options["flip"])}']
    if report['kind'] == 'templates':
        words.append(
            f'pooling: {"media, then templates" if options["media_pooling"] else "all faces of a template alike"}'
        )
        words.append(f'features normalized before pooling: {_yes(options["normalize_before_pooling"])}')
        words.append(f'weighted by detector scores: {_yes(options["detector_weights"])}')
    return '; '.join(words)


def _some(faces: dict) -> str:
    keys = faces['failed_keys']
    return f' ({", ".join(keys)}{", ..." if faces["failed"] > len(keys) else ""})' if keys else ''


def _summary_table(summary: Mapping[str, dict]) -> str:
    over = max((value['over'] for value in summary.values()), default=1)
    rows = []
    for name, value in summary.items():
        deviation = [] if over == 1 else ['' if value['std'] is None else _percent(value['std'])]
        rows.append([name, _percent(value['mean']), *deviation, *_basis(value)])
    head = ['%', 'value'] if over == 1 else ['%', 'mean', f'std over {over} splits']
    return _table([*head, *BASIS], rows)


def _basis(value: dict) -> list[str]:
    """Cells that say what a rate rests on, from the lowest to the highest over lists; empty for other numbers."""
    if 'k' not in value:
        return ['', '', '', '']
    k = _range(value['k'], str) + ('*' if value['mean'] is not None and value['k'][0] < FEW else '')
    resolved = value['mean'] is not None
    threshold = _range(value['threshold'], _score) if resolved else ''
    return [k, _range(value['n'], str), threshold, _range(value['realised'], '{:.3g}'.format) if resolved else '']


def _range(limits: Sequence[float] | None, text: Callable[[float], str]) -> str:
    low, high = (text(limit) for limit in limits or (None, None))
    return low if low == high else f'{low} to {high}'


def _accuracy_table(accuracy: dict) -> str:
    folds = accuracy['folds']
    if not folds:
        return 'Accuracy: not resolvable.'
    head = ['accuracy %', f'std over {len(folds)} folds (ddof=0)', 'standard error (std, ddof=1, / sqrt of folds)']
    text = _table(head, [[_percent(accuracy[key]) for key in ('mean', 'std', 'standard_error')]])
    rows = [
        [
            str(fold['fold']),
            str(fold['pairs']),
            str(fold['genuine']),
            _percent(fold['accuracy']),
            _score(fold['threshold']),
        ]
        for fold in folds
    ]
    return f'{text}\n\n{_table(["fold", "pairs", "genuine", "accuracy %", "threshold of the others"], rows)}'


def _points_table(title: str, kind: str, lists: Sequence[tuple[str, dict]]) -> str:
    """One row for each list and rate; ``kind`` is 'FAR' or 'FPIR'."""
    true = dict(FAR='TAR', FPIR='TPIR')[kind]
    all_key, false_key = dict(FAR=('impostors', 'genuine'), FPIR=('non_mated', 'mated'))[kind]
    rows: list[list[str]] = []
    few, reasons = False, dict[str, None]()
    for name, numbers in lists:
        for point in numbers['points']:
            rate = point[kind.lower()]
            label = far_label(rate) if kind == 'FAR' else f'{rate:g}'
            counts = [str(point['k']), str(point[all_key]), str(point[false_key])]
            if not point['resolvable']:
                rows.append([name, label, 'not resolvable', *counts, '', ''])
                reasons[point['reason']] = None
                continue
            if point['k'] < FEW:
                counts[0] += '*'
                few = True
            threshold, realised = _score(point['threshold']), f'{point[f"realised_{kind.lower()}"]:.3g}'
            rows.append([name, label, _percent(point[true.lower()]), *counts, threshold, realised])
    names = dict(FAR=('N impostor', 'genuine'), FPIR=('N non-mated', 'mated'))[kind]
    head = ['list', kind, f'{true} %', 'k', *names, 'threshold', f'realized {kind}']
    text = f'**{title}**\n\n{_table(*_without_empty(head, rows))}'
    if few:
        text += f'\n\n\\* fewer than {FEW} false {"accepts" if kind == "FAR" else "alarms"}: the number rests on them.'
    return text + ''.join(f'\n\nNot resolvable: {reason}.' for reason in reasons)


def _ranks_table(searches: Sequence[tuple[str, dict]]) -> str:
    ranks = list(searches[0][1]['ranks'])
    rows = [[name, *(_percent(one['ranks'][k]) for k in ranks), str(one['mated'])] for name, one in searches]
    head = ['list', *(f'rank-{k} %' for k in ranks), 'mated probes']
    return f'**Rank, 1:N, over mated probes**\n\n{_table(*_without_empty(head, rows))}'


_VERIFICATION_COUNTS = {
    'templates': lambda one: one['templates'],
    'without usable face': lambda one: one['templates_failed'],
    'media': lambda one: one['media'],
    'faces': lambda one: one['rows'],
    'genuine': lambda one: one['genuine'],
    '... failed': lambda one: one['genuine_failed'],
    'impostor': lambda one: one['impostors'],
    '... failed ': lambda one: one['impostors_failed'],
}
_SEARCH_COUNTS = {
    'gallery': lambda one: one['gallery']['templates'],
    'without usable face': lambda one: one['gallery']['templates_failed'],
    'probes': lambda one: one['probes']['templates'],
    'without usable face ': lambda one: one['probes']['templates_failed'],
    'mated': lambda one: one['mated'],
    '... failed': lambda one: one['mated_failed'],
    'non-mated': lambda one: one['non_mated'],
    '... failed ': lambda one: one['non_mated_failed'],
}


def _counts_table(title: str, lists: Sequence[tuple[str, dict]], columns: Mapping[str, Callable[[dict], int]]) -> str:
    rows = [[name, *(str(value(numbers)) for value in columns.values())] for name, numbers in lists]
    return f'**{title}**\n\n{_table(*_without_empty(["list", *columns], rows))}'


def _without_empty(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the column of names where there is but one list, which has none."""
    return (head, rows) if any(row[0] for row in rows) else (head[1:], [row[1:] for row in rows])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, [' --- ' if number == 0 else ' ---: ' for number in range(len(head))], *rows]
    return '\n'.join(
        '| ' + ' | '.join(one_line(cell.strip()).replace('|', r'\|') for cell in line) + ' |' for line in lines
    )


def _with_deviation(value: dict | None) -> str:
    if value is None:
        return ''
    return _percent(value['mean']) + ('' if value['std'] is None else f' ± {_percent(value["std"])}')


def _failed(report: dict) -> str:
    return f'{report["faces"]["failed"]} of {report["faces"]["count"]}'


def _percent(share: float | None) -> str:
    return 'not resolvable' if share is None else f'{100 * share:.2f}'


def _score(value: float | None) -> str:
    return '-inf' if value is None else f'{value:.4f}'


def _yes(value: bool) -> str:
    return 'yes' if value else 'no'
