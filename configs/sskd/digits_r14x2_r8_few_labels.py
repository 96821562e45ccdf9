# Stage by stage on scikit-learn's digits with few labels: the stages learn from all 1,200 images, which needs no labels, the head
# from 120 labeled ones. As many iterations as 48 epochs of plain training.
# The teacher first: python tools/train.py configs/plain/digits_r14x2.py
_base_ = './digits_r14x2_r8.py'

# layer1, layer2, layer3: 12 epochs of 19 iterations each; then the head alone: 57 epochs of 4 iterations.
default_hooks = dict(
    stage_schedule=dict(
        head=dict(
            epochs=57,
            train_dataloader=dict(
                batch_size=32,
                num_workers=0,
                dataset=dict(
                    type='mmsskd.Digits',
                    _scope_='mmpretrain',
                    split='train',
                    indices=120,
                    pipeline={{_base_.train_pipeline}},
                ),
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
        )
    )
)
train_cfg = dict(max_epochs=93, val_interval=12)
