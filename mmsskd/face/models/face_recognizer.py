import torch
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from ...errors import ConfigError, candidates
from ...registry import MODELS
from ...utils.states import in_eval_mode

PLACES = ('backbone', 'head')


@MODELS.register_module()
class FaceRecognizer(ImageClassifier):
    """A face model: a backbone, a neck that makes the embedding, and for training a classifier of people on top.

    At test time only the embedding counts: two faces are compared by the cosine between theirs, and the classifier is not used.

    **Where the embedding belongs** matters when the model learns stage by stage (``StagewiseDistiller``). With
    ``embedding_in='backbone'`` the neck is one more stage, the last, that mimics the teacher's embedding, and the classifier that
    follows trains on a frozen embedding: it cannot change a face metric. What the transfer phases reached is the result, and the
    classifier phase only adds the class centers. With ``embedding_in='head'`` the neck trains with the classifier, from labels, on
    top of a backbone that stays as the transfer left it; then it is the last phase that decides. Plain training is the same in
    both. The SSKD paper (https://arxiv.org/abs/1812.01819) does not say which was meant for faces.

    Args:
        backbone: Config of the backbone, without an embedding of its own: ``IResNet``, ``MobileFaceNet`` or any of mmpretrain's.
        neck: Config of the neck: ``FaceEmbedNeck``, ``FaceGDCNeck``, or any that returns vectors (N, D), such as mmpretrain's
            ``GlobalAveragePooling``.
        head: Config of the classifier, ``MarginClsHead``; None for a model that is not trained with labels, such as a teacher from
            InsightFace, whose files hold no classifier.
        embedding_in: ``'backbone'`` or ``'head'``, see above.
        test_cfg: ``flip=True``: predict the embedding of the mirrored crop as well.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``; InsightFace's networks expect
            ``mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True``.
        init_cfg: As in MMEngine.

    Raises:
        ConfigError: No neck, or an unknown ``embedding_in`` or key of ``test_cfg``.

    Example:
        >>> model = FaceRecognizer(
        ...     backbone=dict(type='mmsskd.IResNet', depth=18, base_channels=4),
        ...     neck=dict(type='mmsskd.FaceEmbedNeck', in_channels=32, feature_size=2, num_features=16),
        ... )
        >>> model.eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        embedding_in: str = 'backbone',
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        if neck is None:
            raise ConfigError(
                "model.neck is missing: it makes the embedding; dict(type='mmsskd.FaceEmbedNeck') for an IResNet"
            )
        if embedding_in not in PLACES:
            raise ConfigError(f'model.embedding_in: found {embedding_in!r}; {candidates(str(embedding_in), PLACES)}')
        for key in test_cfg or ():
            if key != 'flip':
                raise ConfigError(f'model.test_cfg has no field {key!r}; {candidates(key, ["flip"])}')
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            data_preprocessor = dict(dict(type='mmpretrain.ClsDataPreprocessor'), **(data_preprocessor or {}))
        super().__init__(backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.embedding_in = embedding_in
        self.flip = bool((test_cfg or {}).get('flip', False))

    @property
    def extra_stages(self) -> tuple[str, ...]:
        """The stages after the backbone's when none are named: the neck, where the embedding belongs to the backbone."""
        return ('neck',) if self.embedding_in == 'backbone' else ()

    @property
    def predicts_without_head(self) -> bool:
        """Whether the last stage gives what is evaluated, here the embedding; the distiller looks for it."""
        return bool(self.extra_stages)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """``'loss'``: losses by name; ``'predict'``: data samples with embeddings; ``'tensor'``: the embeddings (N, D).

        Args:
            inputs: The preprocessed batch, (N, C, H, W).
            data_samples: Of mmpretrain; ``'loss'`` needs their labels.
            mode: One of the three.
        """
        return self.embed(inputs) if mode == 'tensor' else super().forward(inputs, data_samples, mode)

    def embed(self, inputs: Tensor) -> Tensor:
        """The embeddings (N, D) of a preprocessed batch (N, C, H, W), not normalized."""
        feats = self.extract_feat(inputs)
        return feats if isinstance(feats, Tensor) else feats[-1]

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The losses of the head.

        Raises:
            ConfigError: There is no head.
        """
        if not self.with_head:
            raise ConfigError(
                "model.head is not set, so there is no loss; dict(type='mmsskd.MarginClsHead', num_classes=...) learns from labels"
            )
        return super().loss(inputs, data_samples)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list[DataSample]:
        """Write embeddings into data samples; labels are not needed.

        Args:
            inputs: The preprocessed batch, (N, C, H, W).
            data_samples: N samples, or None for new ones.

        Returns:
            The samples with ``embedding`` (D,), and with ``test_cfg=dict(flip=True)`` also ``embedding_flip`` (D,), that of the
            crop mirrored left to right. Both float32, not normalized, always computed in eval mode.
        """
        with in_eval_mode(self):
            embeddings = dict(embedding=self.embed(inputs))
            if self.flip:
                embeddings['embedding_flip'] = self.embed(inputs.flip(-1))
        samples = [DataSample() if sample is None else sample for sample in data_samples or [None] * len(inputs)]
        for name, values in embeddings.items():
            for sample, value in zip(samples, values.float(), strict=True):
                sample.set_field(value.clone(), name, dtype=Tensor)  # a view would drag the whole batch into each file
        return samples

    def adopt_state_dict(self, state: dict) -> dict:
        """The same weights under this model's names, where ``state`` has the flat names of InsightFace's arcface_torch.

        There one network holds backbone and embedding: ``conv1.weight``, ``layer1.0.bn1.weight``, ..., ``bn2.weight``,
        ``fc.weight``, ``features.weight``, also after ``module.``. Here the embedding is the neck's. Such a file holds no class
        centers: where the model has a head its weight is then missing, which a strict loader refuses; ``head=None`` is the fix for
        a teacher from InsightFace.

        Args:
            state: A state dict.

        Returns:
            A renamed copy, or ``state`` itself where it is of other names.
        """
        embedding = {name for name, _ in self.neck.named_children()}
        flat = {name.removeprefix('module.'): value for name, value in state.items()}
        roots = {name.split('.')[0] for name in flat}
        if 'features' not in roots & embedding or roots & {'backbone', 'neck', 'head'}:
            return state
        return {
            f'{"neck" if name.split(".")[0] in embedding else "backbone"}.{name}': value for name, value in flat.items()
        }
