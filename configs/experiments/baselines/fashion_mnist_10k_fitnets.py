# FitNets (https://arxiv.org/abs/1412.6550) as one run, as in the scripts of https://github.com/HobbitLong/RepDistiller: the middle
# stage follows the teacher's by mean-squared error with weight 100, beside the task loss.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

model = dict(mimic_loss=dict(type='mmsskd.FeatureMimicLoss', normalize='none', loss_weight=100.0))
default_hooks = dict(stage_schedule=dict(phases=[dict(train='all', mimic='layer2', task_loss=True, epochs=5)]))
