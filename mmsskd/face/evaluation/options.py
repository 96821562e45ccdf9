"""Options of an evaluation of faces, one for each choice that there is. Published numbers differ in all of these."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real

from ...errors import ConfigError, candidates

ROC_RULES = ('exact', 'insightface')
MEGABYTE = 2**20


@dataclass(frozen=True)
class EvaluationOptions:
    """Options that say how features become templates, and which numbers are asked for.

    Args:
        flip: Add the feature of the mirrored crop to that of the crop, where both were given ("F1" of InsightFace).
        normalize_before_pooling: Scale each face's feature (after the flip) to length 1 before faces are averaged. False keeps
            the lengths, the default of InsightFace's ``ijb_11.py`` and ``eval_ijbc.py``; their labels N0 and N1 mean
            opposite things in different files (https://github.com/deepinsight/insightface), so this has a name of its own.
        detector_weights: Multiply each face's feature by its detector score ("D1").
        media_pooling: Average the faces of one medium (a photo, the frames of a video) first, then the media. False averages all
            faces of a template alike.
        roc_rule: ``'exact'``: at most ``floor(f * N)`` false accepts, the exact number in face of ties; ``'insightface'``: the
            nearest point of a thinned ROC, and for TPIR a threshold one probe stricter, to replicate published numbers.
        fars: False accept rates of 1:1 (0 stands for "no false accept").
        fpirs: False positive identification rates of 1:N.
        ranks: Ranks of 1:N over mated probes.
        tpir_rank: TPIR counts a mated probe where its mate is at this rank or better: 1 (detection and identification rate), 20
            (a candidate list of NIST), None: at any rank.
        max_failures: More faces than this without a usable feature are an error; None: never.
        memory: Bytes that temporary arrays may take beside features, templates and the scores of the pairs.

    Raises:
        ConfigError: A value that is not allowed.
    """

    flip: bool = True
    normalize_before_pooling: bool = False
    detector_weights: bool = False
    media_pooling: bool = True
    roc_rule: str = 'exact'
    fars: Sequence[float] = (1e-3, 1e-2, 1e-1)
    fpirs: Sequence[float] = (0.01, 0.1)
    ranks: Sequence[int] = (1, 5, 10)
    tpir_rank: int | None = 1
    max_failures: int | None = None
    memory: int = 256 * MEGABYTE

    def __post_init__(self):
        if self.roc_rule not in ROC_RULES:
            raise ConfigError(f'roc_rule: found {self.roc_rule!r}; {candidates(str(self.roc_rule), ROC_RULES)}')
        for name in ('fars', 'fpirs'):
            self._sequence(name, lambda x: _is_number(x) and 0 <= x < 1, 'numbers from 0 to below 1')
        self._sequence('ranks', lambda x: _is_whole(x) and x > 0, 'whole numbers from 1')
        for name, least in (('tpir_rank', 1), ('max_failures', 0)):
            value = getattr(self, name)
            if value is not None and not (_is_whole(value) and value >= least):
                raise ConfigError(f'{name}: found {value!r}; allowed: None or whole numbers from {least}')
        if not _is_whole(self.memory) or self.memory < MEGABYTE:
            raise ConfigError(f'memory: found {self.memory!r}; allowed: whole numbers of bytes from {MEGABYTE}')
        for name in ('flip', 'normalize_before_pooling', 'detector_weights', 'media_pooling'):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f'{name}: found {getattr(self, name)!r}; allowed: True, False')

    def _sequence(self, name: str, allowed, what: str) -> None:
        value = getattr(self, name)
        values = (value,) if isinstance(value, Real) else value
        if not isinstance(values, (list, tuple)) or not all(map(allowed, values)):
            raise ConfigError(f'{name}: found {value!r}; allowed: {what}, in a list')
        # ascending and once each: tables and curves read from left to right
        object.__setattr__(self, name, tuple(sorted(set(values))))

    @classmethod
    def from_dict(cls, values: Mapping, where: str) -> 'EvaluationOptions':
        """The options that a config names under ``where``.

        Raises:
            ConfigError: There is no such option, or its value is not allowed.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(f'{where}: there is no option {key!r}; {candidates(str(key), known)}')
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f'{where}.{error}') from error

    def as_dict(self) -> dict:
        """All fields, for a report in JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


DEFAULTS = EvaluationOptions()
