# mmpretrain's CIFAR-100 in the setting of the distillation field: batch 64 on one GPU. Downloaded to data/cifar100 on first use.
_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'

train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=500)
test_dataloader = dict(batch_size=500)
