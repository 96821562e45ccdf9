# ResNet-20 of half width on 10,000 images of Fashion-MNIST, trained plainly: the teacher.
_base_ = './fashion_mnist_10k_r14x05.py'

model = dict(backbone=dict(depth=20))
train_cfg = dict(max_epochs=20, val_interval=5)
