# The student of face_orl_r18_student.py where only two pictures of each person have names: trained plainly on those for as many
# iterations.
_base_ = './face_orl_r18_student.py'

train_dataloader = dict(
    batch_size=20, dataset=dict(indices=[i for person in range(20) for i in (10 * person, 10 * person + 1)])
)
train_cfg = dict(max_epochs=45, val_interval=15)
default_hooks = dict(checkpoint=dict(interval=45))
