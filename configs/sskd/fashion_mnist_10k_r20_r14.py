# Stage by stage on 10,000 images of Fashion-MNIST: a ResNet-20 teaches a ResNet-14 of the same widths. 5 epochs in all.
# The recommended recipe for such a pair (docs/results.md): the student starts from the teacher's first blocks, earlier stages stay
# in training, and the head is the teacher's. It uses no label.
# The teacher first: python tools/train.py configs/plain/fashion_mnist_10k_r20x05.py
_base_ = '../_base_/fashion_mnist_10k_r20_r14.py'

model = dict(init_from_teacher='all')
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=3),
        ],
        transfer=dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02))),
    )
)
