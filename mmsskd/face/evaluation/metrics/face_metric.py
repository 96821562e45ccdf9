"""Metric of faces: from embeddings, batch by batch and on any number of ranks, to the numbers of each evaluation."""

import json
import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, MMLogger

from ....errors import ConfigError
from ....registry import METRICS
from ....utils.files import write_text
from ..embeddings import write_embeddings
from ..evaluate import evaluate_pairs, evaluate_templates, flat_metrics
from ..nist_output import write_nist_output
from ..options import EvaluationOptions
from ..protocol import PairProtocol
from ..tables import format_report


@METRICS.register_module()
class FaceMetric(BaseMetric):
    """All numbers that the protocols of a :class:`~mmsskd.face.data.FaceEvaluation` ask for, from one embedding a face.

    Pairs: ten-fold accuracy, AUC, TAR at FAR. Templates: TAR at FAR of the 1:1 lists, mean and standard deviation over splits;
    rank-k and TPIR at FPIR of the 1:N lists. What they mean, to the last detail: :mod:`mmsskd.face.evaluation`.

    The log gets short names (``ijba/tar@far=1e-3``), and a table for each evaluation with k, N, threshold, realized FAR, pooling
    and the counts of failures. The same, split by split, goes into ``<out_dir>/<set>.json``; during training the number of
    iterations is in the file's name, or ``teacher``, which is measured before they begin.

    Each rank keeps what it embedded, by the number of the face. So samples that a distributed sampler adds to fill a batch do
    not count twice, and any number of ranks gives the same embeddings to the same evaluation.

    Args:
        options: Fields of :class:`~mmsskd.face.evaluation.options.EvaluationOptions`: ``roc_rule``, ``fars``, ``tpir_rank``, ...
        out_dir: Folder for the files. None: that of the log.
        embeddings: Also write ``<set>.npz``, which ``tools/face/eval_embeddings.py`` reads.
        nist_output: Also write NIST's ``.matches`` and ``.candidate_lists`` into ``<out_dir>/<set>``.
        collect_device, prefix: As in any metric.

    Raises:
        ConfigError: No such option, or a data set of another kind.

    Example:
        >>> metric = FaceMetric(options=dict(fars=[1e-3], roc_rule='insightface'))
        >>> metric.options.fars
        (0.001,)
    """

    default_prefix = ''  # the names of the sets are prefixes enough

    def __init__(
        self,
        options: dict | None = None,
        out_dir: str | None = None,
        embeddings: bool = False,
        nist_output: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.options = EvaluationOptions.from_dict(options or {}, 'FaceMetric.options')
        self.out_dir, self.embeddings, self.nist_output = out_dir, embeddings, nist_output

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep the embeddings of a batch: one result a batch, so that MMEngine's collecting has little to do."""
        if 'embedding' not in data_samples[0]:
            raise ConfigError('FaceMetric needs a model that predicts `embedding`, such as mmsskd.FaceRecognizer')

        def rows(key):
            if key not in data_samples[0]:
                return None
            return np.stack([np.asarray(sample[key].float().cpu(), np.float32) for sample in data_samples])

        features, flipped = rows('embedding'), rows('embedding_flip')
        failures = [sample['failure'] for sample in data_samples]
        failed = np.array([bool(reason) for reason in failures])
        for values in (features, flipped):
            if values is not None:
                values[failed] = np.nan
        self.results.append(
            dict(
                index=np.array([sample['sample_idx'] for sample in data_samples]),
                features=features,
                flipped=flipped,
                failures=failures,
                aligned_by=[sample['aligned_by'] for sample in data_samples],
            )
        )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        protocols, starts = self._protocols()
        index = np.concatenate([result['index'] for result in results])
        order = np.unique(index, return_index=True)[1]  # the first of each: a sampler may have repeated some
        if len(order) != starts[-1]:
            raise ConfigError(f'FaceMetric got embeddings of {len(order)} faces, the data set has {starts[-1]}')

        def gathered(key):
            if results[0][key] is None:
                return None
            return np.concatenate([result[key] for result in results])[order]

        features, flipped, failures, aligned_by = map(gathered, ('features', 'flipped', 'failures', 'aligned_by'))
        numbers: dict[str, float] = {}
        for name, begin, end in zip(protocols, starts[:-1], starts[1:]):
            part = slice(begin, end)
            own, other = features[part], None if flipped is None else flipped[part]
            evaluate = evaluate_pairs if isinstance(protocols[name], PairProtocol) else evaluate_templates
            report = evaluate(protocols[name], own, other, self.options)
            report['faces'] = dict(
                report.get('faces', {}),
                failures_by_reason=dict(Counter(reason for reason in failures[part].tolist() if reason)),
                aligned_by=dict(Counter(way for way in aligned_by[part].tolist() if way)),
            )
            self._write(name, protocols[name], report, own, other)
            numbers |= {f'{name}/{key}': value for key, value in flat_metrics(report).items()}
        return numbers

    def _protocols(self) -> tuple[dict, np.ndarray]:
        meta = self.dataset_meta or {}
        if 'protocols' not in meta:
            raise ConfigError(
                'FaceMetric needs a data set of type mmsskd.FaceEvaluation in val_dataloader and test_dataloader'
            )
        return meta['protocols'], meta['starts']

    def _write(self, name: str, protocol, report: dict, features: np.ndarray, flipped: np.ndarray | None) -> None:
        logger = MMLogger.get_current_instance()
        logger.info(f'{name}\n{format_report(report)}')
        folder = self.out_dir or _folder_of(logger)
        if folder is None:
            return
        run = MessageHub.get_current_instance().runtime_info
        when = run['measured'] if 'measured' in run else f'iter_{run["iter"] + 1}' if 'iter' in run else None
        stem = os.path.join(folder, name if when is None else f'{name}_{when}')
        write_text(f'{stem}.json', json.dumps(report, indent=1, allow_nan=False))
        if self.embeddings:
            write_embeddings(f'{stem}.npz', protocol.faces.keys, features, flipped)
        if self.nist_output and not isinstance(protocol, PairProtocol):
            write_nist_output(stem, protocol, features, flipped, self.options)


def _folder_of(logger: MMLogger) -> str | None:
    """Folder in which the log is written; None where there is none, as on all ranks but the first."""
    files = [handler.baseFilename for handler in logger.handlers if hasattr(handler, 'baseFilename')]
    return os.path.dirname(files[0]) if files else None
