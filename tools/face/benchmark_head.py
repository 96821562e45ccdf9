#!/usr/bin/env python
"""Memory and time of one training step of a margin head on the CPU, beside mmpretrain's; each in a process of its own."""

import multiprocessing
import resource
import time

from mmsskd.utils.arguments import ToolParser

MIB = 2**20


def measure(name: str, batch: int, people: int, channels: int, queue) -> None:
    """Put (name, MiB of forward, MiB of the whole step, seconds) into ``queue``; memory is what a step takes beyond the weights."""
    import torch
    from mmpretrain.models.heads import ArcFaceClsHead
    from mmpretrain.structures import DataSample

    from mmsskd.face.models import MarginClsHead

    kind = MarginClsHead if name == 'MarginClsHead' else ArcFaceClsHead

    def step(head, count):
        features = torch.randn(count, channels, requires_grad=True)
        samples = [DataSample().set_gt_label(label % 10) for label in range(count)]
        loss = head.loss((features,), samples)['loss']
        between = peak()
        loss.backward()
        return between

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    torch.set_num_threads(1)
    step(kind(10, channels), 4)  # what is allocated once
    head = kind(people, channels)
    start, clock = peak(), time.time()
    between = step(head, batch)
    queue.put((name, (between - start) / MIB, (peak() - start) / MIB, time.time() - clock))


def main():
    parser = ToolParser(__doc__, 'python tools/face/benchmark_head.py --people 100000')
    parser.number('--batch-size', 'embeddings a step', 128)
    parser.number('--people', 'classes of the head', 100_000)
    parser.number('--channels', 'length of an embedding', 512)
    args = parser.parse_args()
    context = multiprocessing.get_context('spawn')
    print(f'{args.batch_size} faces, {args.people} people, embeddings of {args.channels}, one thread\n')
    print('| head | forward, MiB | whole step, MiB | seconds |\n| --- | ---: | ---: | ---: |')
    for name in ('MarginClsHead', 'ArcFaceClsHead'):
        queue = context.Queue()
        process = context.Process(target=measure, args=(name, args.batch_size, args.people, args.channels, queue))
        process.start()
        name, forward, whole, seconds = queue.get(timeout=600)
        process.join()
        print(f'| {name} | {forward:.0f} | {whole:.0f} | {seconds:.1f} |', flush=True)


if __name__ == '__main__':
    main()
