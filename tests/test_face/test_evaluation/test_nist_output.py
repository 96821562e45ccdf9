"""Files in NIST's form: scores of all pairs and lists of candidates."""

from dataclasses import replace

import pytest
from metric_helpers import cosine, random_protocol, slow_pool

from mmsskd.face.evaluation.nist_output import write_nist_output
from mmsskd.face.evaluation.protocol import Split


def test_nist_files(tmp_path):
    protocol, features = random_protocol(7)
    written = write_nist_output(tmp_path / 'nist', protocol, features)
    names = ['split1.matches', 'split1.candidate_lists', 'split2.matches', 'split2.candidate_lists']
    assert [path.name for path in written] == names and sorted(p.name for p in (tmp_path / 'nist').iterdir()) == sorted(
        names
    )
    split = protocol.splits[1]
    lines = [line.split(' ') for line in written[2].read_text().splitlines()]
    assert lines[0][0] == 'ENROLL_TEMPLATE_ID' and lines[0][-1] == 'SIMILARITY_SCORE' and len(lines) == 151
    pooled = slow_pool(split.verification.templates, features)
    for (enrolled, checked), line in zip(split.verification.pairs, lines[1:]):
        sizes = [0 if pooled[one] is None else 32 for one in (enrolled, checked)]
        assert line[:4] == [str(100 + enrolled), str(100 + checked), *map(str, sizes)]
        assert line[4] == ('1' if 0 in sizes else '0')
        assert float(line[5]) == pytest.approx(cosine(pooled[enrolled], pooled[checked]), abs=1e-6)
    (search,) = split.identification
    lines = [line.split(' ') for line in written[3].read_text().splitlines()]
    assert lines[0][:3] == ['SEARCH_TEMPLATE_ID', 'CANDIDATE_RANK', 'ENROLL_TEMPLATE_ID'] and len(lines) == 1 + 40 * 6
    gallery, probes = slow_pool(search.gallery, features), slow_pool(search.probes, features)
    for number, probe in enumerate(probes):
        rows = lines[1 + 6 * number : 7 + 6 * number]
        scores = [cosine(probe, known) for known in gallery]
        assert [row[1] for row in rows] == list('012345') and {row[0] for row in rows} == {str(100 + number)}
        assert [float(row[6]) for row in rows] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
        assert [scores[int(row[2]) - 100] for row in rows] == pytest.approx([float(row[6]) for row in rows], abs=1e-6)
        assert [row[5] for row in rows] == ['1' if row[6] == '-inf' else '0' for row in rows]
    assert write_nist_output(tmp_path / 'short', protocol, features, candidates=2)[1].read_text().count('\n') == 81
    nameless = replace(protocol, name='my set/1', splits=(Split('', None, (replace(search, name='G1'),)),))
    (path,) = write_nist_output(tmp_path / 'one', nameless, features)
    assert path.name == 'my_set_1_G1.candidate_lists'
