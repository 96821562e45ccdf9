"""InsightFace's arcface_torch as its files name and shape things, and as it computes: written out by hand, without our modules."""

import torch
from torch.nn import functional as F

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


def _bn(name, channels):
    values = {f'{name}.{key}': (channels,) for key in ('weight', 'bias', 'running_mean', 'running_var')}
    return {**values, f'{name}.num_batches_tracked': ()}


def iresnet_table(depth, width=64, features=512, size=7) -> dict[str, tuple]:
    """Names and shapes of an iresnet's state dict."""
    table = {'conv1.weight': (width, 3, 3, 3), **_bn('bn1', width), 'prelu.weight': (width,)}
    before = width
    for stage, count in enumerate(BLOCKS[depth]):
        channels = width * (1, 2, 4, 8)[stage]
        for block in range(count):
            name = f'layer{stage + 1}.{block}'
            table |= _bn(f'{name}.bn1', before) | {f'{name}.conv1.weight': (channels, before, 3, 3)}
            table |= _bn(f'{name}.bn2', channels) | {f'{name}.prelu.weight': (channels,)}
            table |= {f'{name}.conv2.weight': (channels, channels, 3, 3)} | _bn(f'{name}.bn3', channels)
            if block == 0:
                table |= {f'{name}.downsample.0.weight': (channels, before, 1, 1)} | _bn(
                    f'{name}.downsample.1', channels
                )
            before = channels
    table |= _bn('bn2', before) | {'fc.weight': (features, before * size * size), 'fc.bias': (features,)}
    return table | _bn('features', features)


def mobilefacenet_table(scale=2, blocks=(1, 4, 6, 2), features=512) -> dict[str, tuple]:
    """Names and shapes of a MobileFaceNet's state dict."""

    def conv(name, inside, out, kernel, groups=1, prelu=True):
        weight = {f'{name}.layers.0.weight': (out, inside // groups, kernel, kernel)}
        return weight | _bn(f'{name}.layers.1', out) | ({f'{name}.layers.2.weight': (out,)} if prelu else {})

    def unit(name, inside, out, groups):
        wide = conv(f'{name}.layers.0', inside, groups, 1) | conv(f'{name}.layers.1', groups, groups, 3, groups)
        return wide | conv(f'{name}.layers.2', groups, out, 1, prelu=False)

    a, b = 64 * scale, 128 * scale
    table = conv('layers.0', 3, a, 3)
    if blocks[0] == 1:
        table |= conv('layers.1', a, a, 3, 64)
    plan = [(1, a, 128, blocks[0])] if blocks[0] != 1 else []
    for k, channels, groups, count in plan + [(3, a, 128, blocks[1]), (5, b, 256, blocks[2]), (7, b, 256, blocks[3])]:
        for i in range(count):
            table |= unit(f'layers.{k}.layers.{i}', channels, channels, groups)
    table |= unit('layers.2', a, a, 128) | unit('layers.4', a, b, 256) | unit('layers.6', b, b, 512)
    table |= conv('conv_sep', b, 512, 1) | conv('features.layers.0', 512, 512, 7, 512, prelu=False)
    return table | {'features.layers.2.weight': (features, 512)} | _bn('features.layers.3', features)


def random_state(table: dict[str, tuple], seed=0) -> dict[str, torch.Tensor]:
    """Weights of a table's shapes, such as training might leave: no statistic is trivial."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in table.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(1000)
        elif name == 'features.weight':
            state[name] = torch.ones(shape)
        elif name.endswith('running_var'):
            state[name] = noise.abs() + 0.5
        elif len(shape) > 1:
            state[name] = noise * (2 / max(noise[0].numel(), 1)) ** 0.5
        elif name.endswith(('running_mean', 'bias')):
            state[name] = noise * 0.1
        else:
            state[name] = 1 + noise * 0.1 if f'{name[:-7]}.running_var' in table else noise * 0.1 + 0.25
    return state


def _normalise(state, name, x):
    keys = ('running_mean', 'running_var', 'weight', 'bias')
    return F.batch_norm(x, *(state[f'{name}.{key}'] for key in keys), eps=1e-5)


def iresnet_forward(state, depth, x) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The maps after the four stages and the embedding, in eval mode."""
    x = F.conv2d(x, state['conv1.weight'], padding=1)
    x = F.prelu(_normalise(state, 'bn1', x), state['prelu.weight'])
    maps = []
    for stage, count in enumerate(BLOCKS[depth]):
        for block in range(count):
            name, stride = f'layer{stage + 1}.{block}', 2 if block == 0 else 1
            y = F.conv2d(_normalise(state, f'{name}.bn1', x), state[f'{name}.conv1.weight'], padding=1)
            y = F.prelu(_normalise(state, f'{name}.bn2', y), state[f'{name}.prelu.weight'])
            y = _normalise(state, f'{name}.bn3', F.conv2d(y, state[f'{name}.conv2.weight'], stride=stride, padding=1))
            if block == 0:
                short = F.conv2d(x, state[f'{name}.downsample.0.weight'], stride=2)
                x = _normalise(state, f'{name}.downsample.1', short)
            x = x + y
        maps.append(x)
    x = _normalise(state, 'bn2', x).flatten(1)
    return maps, _normalise(state, 'features', F.linear(x, state['fc.weight'], state['fc.bias']))


def mobilefacenet_forward(state, blocks, x) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The maps at half, a fourth, an eighth and a sixteenth of the size, the last after conv_sep, and the embedding."""

    def conv(name, x, stride=1, groups=1, padding=0, prelu=True):
        x = F.conv2d(x, state[f'{name}.layers.0.weight'], stride=stride, padding=padding, groups=groups)
        x = _normalise(state, f'{name}.layers.1', x)
        return F.prelu(x, state[f'{name}.layers.2.weight']) if prelu else x

    def unit(name, x, groups, stride=1):
        y = conv(f'{name}.layers.1', conv(f'{name}.layers.0', x), stride, groups, 1)
        return conv(f'{name}.layers.2', y, prelu=False)

    x = conv('layers.1', conv('layers.0', x, 2, padding=1), groups=64, padding=1)
    maps = [x]
    for k, down, groups, count in ((2, 128, 128, blocks[1]), (4, 256, 256, blocks[2]), (6, 512, 256, blocks[3])):
        x = unit(f'layers.{k}', x, down, 2)
        for i in range(count):
            x = x + unit(f'layers.{k + 1}.layers.{i}', x, groups)
        maps.append(x)
    maps[-1] = x = conv('conv_sep', x)
    x = conv('features.layers.0', x, groups=512, prelu=False).flatten(1)
    return maps, _normalise(state, 'features.layers.3', F.linear(x, state['features.layers.2.weight']))
