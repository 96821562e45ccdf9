"""Plots show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from mmsskd.visualization.history import History
from mmsskd.visualization.plots import detections, feature_maps, mimic_curves, timeline
from mmsskd.visualization.report import Report


def test_boxes_are_drawn_where_they_are():
    """Two images, two networks: each panel has its own boxes."""
    boxes = np.array([[1.0, 2.0, 5.0, 8.0]])
    found = [(boxes, np.array([3]), np.array([0.75])), (boxes[:0], np.array([], dtype=int), np.array([]))]
    images = [np.zeros((10, 12, 3), np.uint8)] * 2
    long = 'student with few of the labels, all images'
    figure = detections(images, {'truth': found, long: found[::-1]}, tuple('0123456789'))
    assert figure.axes[1].get_title().split('\n') == ['student with few of', 'the labels, all images'], (
        'no title over the next'
    )
    panels = [len(axis.patches) for axis in figure.axes]
    assert panels == [1, 0, 0, 1]
    box = figure.axes[0].patches[0]
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((1.0, 2.0), 4.0, 6.0)
    assert figure.axes[0].texts[0].get_text() == '3 75'
    plt.close(figure)


def test_figures_show_what_they_are_given(tmp_path):
    records = [{'val/relative_error_layer1': value, 'step': step} for step, value in ((1, 0.5), (2, 0.25))]
    axes = mimic_curves(History(records, [])).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.25] and axes.get_legend().texts[0].get_text() == 'layer1: 0.25'
    phases = [
        dict(train=['layer1'], length=2, task_loss=False),
        dict(train=['layer1', 'head'], length=3, task_loss=True),
    ]
    axes = timeline(phases).axes[0]
    bars = [(bar.get_x(), bar.get_width(), bar.get_hatch()) for bar in axes.patches]
    assert bars == [(0, 2, None), (2, 3, '//'), (2, 3, '//')]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['layer1', 'head']
    images = torch.rand(3, 1, 8, 8)
    figure = feature_maps(
        images, {'teacher': [torch.rand(3, 4, 8, 8)], 'student': [torch.rand(3, 2, 8, 8)]}, ['layer1']
    )
    assert len(figure.axes) == 3 * 3
    limits = {axis.images[0].get_clim() for axis in (figure.axes[3], figure.axes[6])}
    assert len(limits) == 1, 'teacher and student share one scale'
    report = Report('a < b')
    report.figure(figure, 'caption', 'shows')
    report.write(tmp_path / 'page.html')
    assert '<h1>a &lt; b</h1>' in (tmp_path / 'page.html').read_text()
    assert figure.number not in plt.get_fignums(), 'a figure in a report is closed'
