"""The evaluation data set and the metric: what is embedded, what is a failure, and that nothing counts twice."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
from face import SIZE, evaluation, recognizer, write_people
from helpers import ROOT, warm_python, warm_ranks, weights
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from record_helpers import claim, jpeg

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.metrics import FaceMetric


def build(sets, **dataset):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(evaluation(sets, **dataset)['dataset'])


def write_templates(folder, rows, header='TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID'):
    (folder / 'templates.csv').write_text('\n'.join([header, *rows]) + '\n')
    (folder / 'pairs.csv').write_text('1,2\n1,3\n')
    return dict(
        mine=dict(
            reader='templates',
            metadata=str(folder / 'templates.csv'),
            pairs=str(folder / 'pairs.csv'),
            root=str(folder),
        )
    )


@pytest.fixture
def own_set(tmp_path):
    """Three templates of a face each; the first two are of person 7."""
    write_people(tmp_path, 2, 2)
    return write_templates(tmp_path, ['1,7,p00/0.png,1', '2,7,p00/1.png,2', '3,8,p01/0.png,3'])


def write_bin(path, pairs=10):
    """Pairs of crops; every other pair is twice the same image."""
    images = []
    for i in range(pairs):
        for j in range(2):
            value = np.random.default_rng(10 * i + (j if i % 2 else 0)).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
            images.append(cv2.imencode('.png', value)[1].tobytes())
    path.write_bytes(pickle.dumps((images, [i % 2 == 0 for i in range(pairs)])))
    return dict(lfw=dict(reader='bin', path=str(path)))


def test_items_of_several_sets_follow_each_other(tmp_path, own_set, face_sets):
    sets = {**own_set, **write_bin(tmp_path / 'lfw.bin'), 'ijba': dict(reader='ijba', root=str(face_sets / 'ijba'))}
    dataset = build(sets)
    starts = dataset.metainfo['starts'].tolist()
    assert starts[:3] == [0, 3, 23] and len(dataset) == starts[-1]
    for index in (0, 3, 22, 23, len(dataset) - 1):
        item = dataset[index]
        assert item['inputs'].shape == (3, SIZE, SIZE) and item['data_samples'].sample_idx == index
    assert dataset[0]['data_samples'].aligned_by == 'image' and dataset[23]['data_samples'].aligned_by == 'box'


def test_inherited_sets_are_left_out_by_none(own_set):
    assert list(build({**own_set, 'lfw': None}).metainfo['protocols']) == ['mine']
    with pytest.raises(ConfigError, match=r"all of \['lfw'\] are None"):
        build(dict(lfw=None))


def test_missing_files_stop_or_count(tmp_path, own_set):
    (tmp_path / 'p01/0.png').unlink()
    with pytest.raises(
        ConfigError, match=r"sets\['mine'\]: 1 of 3 faces have no image below .*missing file: p01/0.png.* strict=False"
    ):
        build(own_set)
    sample = build(own_set, strict=False)[2]['data_samples']
    assert sample.failure == 'missing file'


def test_empty_files_and_folders_are_not_missing_files(tmp_path, own_set):
    (tmp_path / 'p00/1.png').write_bytes(b'')
    (tmp_path / 'p01/0.png').unlink()
    (tmp_path / 'p01/0.png').mkdir()
    message = r'2 of 3 faces have no image .*: empty file \(0 bytes\): p00/1.png; folder: p01/0.png. Complete them'
    with pytest.raises(ConfigError, match=message):
        build(own_set)
    dataset = build(own_set, strict=False)
    assert [dataset[i]['data_samples'].failure for i in range(3)] == ['', 'empty file (0 bytes)', 'folder']
    dataset.strict = True  # as where a file is lost while others are embedded
    for index, found in ((1, 'empty file'), (2, 'folder')):
        with pytest.raises(ConfigError, match=rf"p0.*png' cannot be read: {found}"):
            dataset[index]


def test_unreadable_files_stop_or_count(tmp_path, own_set):
    (tmp_path / 'p01/0.png').write_bytes(b'no image')
    with pytest.raises(ConfigError, match=r"p01/0.png' cannot be decoded"):
        build(own_set)[2]
    assert build(own_set, strict=False)[2]['data_samples'].failure == 'unreadable image'
    (tmp_path / 'p01/0.png').write_bytes(claim(jpeg(1, suffix='.png'), 60_000, 60_000))
    with pytest.raises(ConfigError, match=r"p01/0.png': its header says 60000 x 60000 = 3,600,000,000 pixels"):
        build(own_set)[2]
    assert build(own_set, strict=False)[2]['data_samples'].failure == 'unreadable image'


def test_landmarks_that_no_face_can_have_are_a_failure(tmp_path):
    """Never a black crop with a plausible embedding."""
    write_people(tmp_path, 2, 2)
    names = ','.join(f'{axis}{i}' for i in range(1, 6) for axis in 'xy')
    good = '11,15,22,15,17,22,12,28,21,28'
    sets = write_templates(
        tmp_path,
        [f'1,7,p00/0.png,1,{good}', f'2,7,p00/1.png,2,{"9,9," * 4}9,9', f'3,8,p01/0.png,3,{good}'],
        f'TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,{names}',
    )
    dataset = build(sets)
    assert [dataset[i]['data_samples'].failure for i in (0, 2)] == ['', '']
    assert dataset[0]['data_samples'].aligned_by == 'landmarks'
    assert dataset[1]['data_samples'].failure


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(reader='ijbs'), "there is no reader 'ijbs'; did you mean 'ijb"),
        (dict(reader='lfw', pair='x'), r"sets\['mine'\]: .*argument.*the reader 'lfw' takes pairs_txt, image_root"),
    ],
)
def test_a_slip_in_the_config_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        build(dict(mine=change))


def test_crops_of_another_size_are_refused(own_set):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg = evaluation(own_set)['dataset']
        dataset = DATASETS.build(dict(cfg, size=48))
        with pytest.raises(ConfigError, match=r'crops of \(32, 32\), size says \(48, 48\)'):
            dataset[0]


def samples(vectors, indices, failures=()):
    found = []
    for vector, index in zip(vectors, indices):
        sample = DataSample(
            metainfo=dict(sample_idx=index, failure='gone' if index in failures else '', aligned_by='box')
        )
        sample.set_field(torch.tensor(vector, dtype=torch.float32), 'embedding', dtype=torch.Tensor)
        found.append(sample)
    return found


def evaluate(own_set, batches, tmp_path, **metric):
    MessageHub.get_instance(f'no_training_{tmp_path}')  # an earlier test's run has left its own, with an iteration
    evaluator = Evaluator(FaceMetric(out_dir=str(tmp_path / 'out'), **metric))
    dataset = build(own_set)
    evaluator.dataset_meta = dataset.metainfo
    for batch in batches:
        evaluator.process(batch)
    return evaluator.evaluate(len(dataset)), json.loads((tmp_path / 'out/mine.json').read_text())


A, B, C = [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]


def test_order_and_repetition_do_not_matter(own_set, tmp_path):
    """As a distributed sampler gives them: interleaved, the last batch filled up with the first images."""
    plain = evaluate(own_set, [samples([A, B, C], [0, 1, 2])], tmp_path)
    other = evaluate(own_set, [samples([C, A], [2, 0]), samples([B, A], [1, 0])], tmp_path)
    assert plain == other and plain[0]['mine/auc'] == 1.0


def test_a_failure_counts_in_every_denominator(own_set, tmp_path):
    metrics, report = evaluate(own_set, [samples([A, B, C], [0, 1, 2], failures=[1])], tmp_path)
    assert report['faces']['failed'] == 1 and report['faces']['failures_by_reason'] == {'gone': 1}
    assert report['faces']['aligned_by'] == {'box': 3} and metrics['mine/auc'] < 1.0


def test_missing_embeddings_are_an_error(own_set, tmp_path):
    with pytest.raises(ConfigError, match='embeddings of 2 faces, the data set has 3'):
        evaluate(own_set, [samples([A, B], [0, 1])], tmp_path)


def test_files_for_other_tools(own_set, tmp_path):
    evaluate(own_set, [samples([A, B, C], [0, 1, 2])], tmp_path, embeddings=True, nist_output=True)
    with np.load(tmp_path / 'out/mine.npz', allow_pickle=False) as file:
        assert file['keys'].tolist() == ['p00/0.png', 'p00/1.png', 'p01/0.png'] and file['features'].shape == (3, 2)
    (matches,) = (tmp_path / 'out/mine').glob('*.matches')
    assert len(matches.read_text().splitlines()) == 3


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"FaceMetric.options: there is no option 'far'; did you mean 'fars'"):
        FaceMetric(options=dict(far=0.1))


@pytest.fixture(scope='module')
def test_cfg_file(tmp_path_factory, face_sets, face_teacher):
    """The config of a recogniser that is tested on pairs and templates, without flip and with options."""
    folder = tmp_path_factory.mktemp('test_cfg')
    sets = {**write_bin(folder / 'lfw.bin', 21), 'ijba': dict(reader='ijba', root=str(face_sets / 'ijba'))}
    metric = dict(type='mmsskd.FaceMetric', embeddings=True, options=dict(fars=[0.05, 0.2]))
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            custom_imports=dict(imports=['mmsskd'], allow_failed_imports=False),
            model=recognizer(),
            test_dataloader=evaluation(sets, batch_size=7),
            test_evaluator=metric,
            test_cfg=dict(),
            log_level='WARNING',
        )
    )
    cfg.dump(folder / 'config.py')
    return folder / 'config.py', face_teacher


def run_test(cfg_file, weights_path, out, ranks):
    options = ['--work-dir', out, '--cfg-options', f'test_evaluator.out_dir={out}']
    if ranks == 1:
        return warm_python(ROOT / 'tools/test.py', cfg_file, weights_path, *options)
    assert ranks == 2
    return warm_ranks(ROOT / 'tools/test.py', cfg_file, weights_path, *options, port=29731)


def without_thresholds(value):
    """Thresholds are scores, and BLAS rounds those of a batch's last places by its size; whatever is decided by them is equal."""
    if isinstance(value, dict):
        return {key: without_thresholds(item) for key, item in value.items() if key != 'threshold'}
    return [without_thresholds(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_to_the_last_digit(test_cfg_file, tmp_path):
    reports = []
    for ranks in (1, 2):
        result = run_test(*test_cfg_file, tmp_path / str(ranks), ranks)
        assert result.returncode == 0, result.stderr
        reports.append({name: json.loads((tmp_path / f'{ranks}/{name}.json').read_text()) for name in ('lfw', 'ijba')})
    assert without_thresholds(reports[0]) == without_thresholds(reports[1])
    assert set(reports[0]['ijba']['summary']) >= {'tar@far=5e-2', 'tar@far=2e-1', 'rank-1'}
    assert reports[0]['lfw']['summary']['accuracy']['over'] == 10


@pytest.mark.slow
def test_an_embedding_does_not_depend_on_its_batch(test_cfg_file, tmp_path):
    """Batched and one by one, and mirrored twice."""
    cfg = Config.fromfile(test_cfg_file[0])
    cfg.work_dir, cfg.test_evaluator.out_dir = str(tmp_path), str(tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.model.load_state_dict(weights(test_cfg_file[1]))
    runner.test()
    dataset = runner.test_loop.dataloader.dataset
    with np.load(tmp_path / 'lfw.npz', allow_pickle=False) as file:
        batched, mirrored = file['features'], file['features_flip']
    start = dataset.metainfo['starts'][list(dataset.metainfo['protocols']).index('lfw')]
    item = dataset[start + 5]
    (one,) = runner.model.test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
    (turned,) = runner.model.test_step(
        dict(inputs=[item['inputs'].flip(-1)], data_samples=[item['data_samples'].clone()])
    )
    np.testing.assert_allclose(one.embedding.cpu().numpy(), batched[5], atol=1e-5)
    np.testing.assert_allclose(turned.embedding.cpu().numpy(), mirrored[5], atol=1e-5)
    assert not np.allclose(batched[5], mirrored[5], atol=1e-3)
