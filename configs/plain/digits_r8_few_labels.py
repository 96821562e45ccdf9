# ResNet-8 of half width on the first 120 of scikit-learn's digits, trained plainly for as many iterations as on all 1,200.
_base_ = './digits_r8.py'

train_dataloader = dict(batch_size=32, dataset=dict(indices=120))
train_cfg = dict(max_epochs=228, val_interval=38)
default_hooks = dict(checkpoint=dict(interval=228))
