"""Spellings of linear layers, sums, pools and moves."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .table import Group

LINEAR = (
    Group("linear layer", {
        "F.linear": lambda x, w, b: F.linear(x, w, b),
        "addmm": lambda x, w, b: torch.addmm(b, x, w.t()),
        "mm and add": lambda x, w, b: torch.mm(x, w.t()) + b,
        "add first": lambda x, w, b: b + x @ w.t(),
        "linear without bias": lambda x, w, b: F.linear(x, w) + b,
        "einsum": lambda x, w, b: torch.einsum("bi,oi->bo", x, w) + b,
        "transposed": lambda x, w, b: (w @ x.t()).t() + b,
        "conv1d": lambda x, w, b: F.conv1d(x.unsqueeze(-1), w.unsqueeze(-1), b).squeeze(-1),
        "conv2d": lambda x, w, b: F.conv2d(x[:, :, None, None], w[:, :, None, None], b).flatten(1),
        "conv2d, transposed": lambda x, w, b: F.conv_transpose2d(
            x[:, :, None, None], w.t()[:, :, None, None], b).flatten(1),
        "tensordot": lambda x, w, b: torch.tensordot(x, w, ([1], [1])) + b,
        "mv": lambda x, w, b: torch.stack([torch.mv(w, row) for row in x]) + b,
        "addmv": lambda x, w, b: torch.stack([torch.addmv(b, w, row) for row in x]),
        "bmm": lambda x, w, b: torch.bmm(w.expand(3, 5, 4), x.unsqueeze(-1)).squeeze(-1) + b,
        "baddbmm": lambda x, w, b: torch.baddbmm(
            b.view(1, 5, 1), w.expand(3, 5, 4), x.unsqueeze(-1)).squeeze(-1),
        "three dimensions": lambda x, w, b: F.linear(x.unsqueeze(1), w, b).squeeze(1),
        "product and sum": lambda x, w, b: (x.unsqueeze(1) * w).sum(-1) + b,
        "bias in the weight": lambda x, w, b: torch.cat([x, torch.ones(3, 1).to(x)], 1)
            @ torch.cat([w, b[:, None]], 1).t(),
        "scaled": lambda x, w, b: torch.addmm(b, x, w.t() / 2, alpha=2.0),
    }, constants=((5, 4), (5,)), layer=True, several=("mv", "product and sum")),
    Group("linear layer on 3-D", {
        "F.linear": lambda x, w, b: F.linear(x, w, b),
        "matmul": lambda x, w, b: x @ w.t() + b,
        "einsum": lambda x, w, b: torch.einsum("bti,oi->bto", x, w) + b,
        "flattened addmm": lambda x, w, b: torch.addmm(b, x.view(-1, 4), w.t()).view(2, 3, 5),
        "not contiguous": lambda x, w, b: F.linear(x.mT.contiguous().mT, w, b),
        "transposed twice": lambda x, w, b: F.linear(x.transpose(0, 1), w, b).transpose(0, 1),
        "bmm": lambda x, w, b: torch.bmm(x, w.t().expand(2, 4, 5)) + b,
        "baddbmm": lambda x, w, b: torch.baddbmm(b, x, w.t().expand(2, 4, 5)),
        "conv1d": lambda x, w, b: F.conv1d(x.mT, w.unsqueeze(-1), b).mT,
        "conv2d": lambda x, w, b: F.conv2d(x.permute(0, 2, 1).unsqueeze(-1), w[:, :, None, None], b)
            .squeeze(-1).permute(0, 2, 1),
        "GPT-2's Conv1D": lambda x, w, b: torch.addmm(b, x.view(-1, x.size(-1)), w.t().contiguous())
            .view(2, 3, 5),
        "a step at a time": lambda x, w, b: torch.stack([F.linear(x[:, t], w, b) for t in range(3)], 1),
        "non-contiguous weight": lambda x, w, b: F.linear(x, w.t().contiguous().t(), b),
    }, live=((2, 3, 4),), constants=((5, 4), (5,)), layer=True),
    Group("convolution", {
        "conv2d": lambda x, w, b: F.conv2d(x, w, b, padding=1),
        "bias apart": lambda x, w, b: F.conv2d(x, w, padding=1) + b[:, None, None],
        "padded": lambda x, w, b: F.conv2d(F.pad(x, (1, 1, 1, 1)), w, b),
        "unfold": lambda x, w, b: (w.flatten(1) @ F.unfold(x, 3, padding=1) + b[:, None]).view(2, 2, 4, 4),
        "windows": lambda x, w, b: torch.einsum("bchwij,ocij->bohw",
            F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1), w) + b[:, None, None],
        "conv3d": lambda x, w, b: F.conv3d(x.unsqueeze(2), w.unsqueeze(2), b, padding=(0, 1, 1)).squeeze(2),
        "channels last": lambda x, w, b: F.conv2d(
            x.contiguous(memory_format=torch.channels_last), w, b, padding=1),
    }, live=((2, 3, 4, 4),), constants=((2, 3, 3, 3), (2,)), layer=True),
    Group("depthwise convolution", {
        "groups": lambda x, w, b: F.conv1d(x, w, b, padding=1, groups=3),
        "a channel at a time": lambda x, w, b: torch.cat(
            [F.conv1d(x[:, i : i + 1], w[i : i + 1], b[i : i + 1], padding=1) for i in range(3)], 1),
        "shifts": lambda x, w, b: sum(
            (F.pad(x, (1, 1))[:, :, k : k + 4] * w[:, :, k] for k in range(3)), b[:, None]),
        "conv2d": lambda x, w, b: F.conv2d(
            x.unsqueeze(2), w.unsqueeze(2), b, padding=(0, 1), groups=3).squeeze(2),
    }, live=((2, 3, 4),), constants=((3, 1, 3), (3,))),
    Group("product of two", {
        "matmul": lambda a, b: a @ b,
        "bmm": lambda a, b: torch.bmm(a, b),
        "einsum": lambda a, b: torch.einsum("bij,bjk->bik", a, b),
        "product and sum": lambda a, b: (a.unsqueeze(-1) * b.unsqueeze(1)).sum(2),
        "one at a time": lambda a, b: torch.stack([torch.mm(s, t) for s, t in zip(a, b)]),
        "transposed": lambda a, b: (b.mT @ a.mT).mT,
        "four dimensions": lambda a, b: (a.unsqueeze(1) @ b.unsqueeze(1)).squeeze(1),
        "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(2, 3, 5).to(a), a, b),
    }, live=((2, 3, 4), (2, 4, 5))),
    Group("dot product of rows", {
        "product and sum": lambda a, b: (a * b).sum(-1),
        "einsum": lambda a, b: torch.einsum("bi,bi->b", a, b),
        "matmul": lambda a, b: (a.unsqueeze(1) @ b.unsqueeze(2)).view(3),
        "dot": lambda a, b: torch.stack([torch.dot(s, t) for s, t in zip(a, b)]),
        "diagonal": lambda a, b: (a @ b.t()).diagonal(),
    }, live=((3, 4), (3, 4))),
)  # fmt: skip

SUMS = (
    Group("residual", {
        "x + f(x)": lambda x, w: x + F.relu(x @ w),
        "f(x) + x": lambda x, w: F.relu(x @ w) + x,
        "torch.add": lambda x, w: torch.add(x, F.relu(x @ w)),
        "in place": lambda x, w: x.clone().add_(F.relu(x @ w)),
        "stack and sum": lambda x, w: torch.stack([x, F.relu(x @ w)]).sum(0),
        "cat and sum": lambda x, w: torch.cat([x[None], F.relu(x @ w)[None]]).sum(0),
        "x - (-f)": lambda x, w: x - (-F.relu(x @ w)),
        "alpha": lambda x, w: torch.add(x, F.relu(x @ w) / 2, alpha=2),
        "sum of a list": lambda x, w: sum([x, F.relu(x @ w)]),
        "lerp": lambda x, w: 2 * torch.lerp(x, F.relu(x @ w), 0.5),
        "mean of two": lambda x, w: torch.stack([x, F.relu(x @ w)], 1).mean(1) * 2,
        "addmm into x": lambda x, w: x + torch.addmm(torch.zeros(4).to(x), x, w).clamp(min=0),
        "concatenated weights": lambda x, w: torch.cat([x, F.relu(x @ w)], 1)
            @ torch.eye(4).to(x).repeat(2, 1),
    }, constants=((4, 4),)),
    Group("difference", {
        "a - b": lambda a, b: a - b,
        "a + (-b)": lambda a, b: a + (-b),
        "torch.sub": lambda a, b: torch.sub(a, b),
        "rsub": lambda a, b: torch.rsub(b, a),
        "alpha": lambda a, b: torch.add(a, b, alpha=-1),
        "times -1": lambda a, b: a + b * -1,
        "-(b - a)": lambda a, b: -(b - a),
        "in place": lambda a, b: a.clone().sub_(b),
    }, live=((3, 4), (3, 4))),
    Group("division by a number", {
        "x / 3": lambda x: x / 3,
        "x * (1 / 3)": lambda x: x * (1 / 3),
        "tensor": lambda x: x / torch.tensor(3.0, dtype=x.dtype),
        "reciprocal": lambda x: x * torch.tensor(3.0, dtype=x.dtype).reciprocal(),
        "in place": lambda x: x.clone().div_(3),
        "negated twice": lambda x: -(-x / 3),
    }),
    Group("division by a learned tensor", {
        "quotient": lambda x, t: x / t,
        "reciprocal": lambda x, t: x * t.reciprocal(),
        "power": lambda x, t: x * t**-1,
        "exp": lambda x, t: x * torch.exp(-t.log()),
    }, constants=((4,),), positive=True),
    Group("quotient of two", {
        "quotient": lambda a, b: a / b,
        "reciprocal": lambda a, b: a * b.reciprocal(),
        "1 / b": lambda a, b: a * (1 / b),
        "power": lambda a, b: b**-1 * a,
        "roots": lambda a, b: a / b.sqrt() / b.sqrt(),
        "rsqrt twice": lambda a, b: a * b.rsqrt() * b.rsqrt(),
        "scaled": lambda a, b: (2 * a) * (0.5 / b),
    }, live=((3, 4), (3, 4)), positive=True),
    Group("quotient by a root", {
        "quotient": lambda a, b: a / b.sqrt(),
        "rsqrt": lambda a, b: a * b.rsqrt(),
        "power": lambda a, b: a * b**-0.5,
        "reciprocal": lambda a, b: b.sqrt().reciprocal() * a,
    }, live=((3, 4), (3, 4)), positive=True),
    Group("one over a product", {
        "1 / (a b)": lambda a, b: 1 / (a * b),
        "two reciprocals": lambda a, b: a.reciprocal() * b.reciprocal(),
        "powers": lambda a, b: a**-1 * b**-1,
    }, live=((3, 4), (3, 4)), positive=True),
    Group("mean", {
        "mean": lambda x: x.mean(-1),
        "sum / n": lambda x: x.sum(-1) / 4,
        "matmul": lambda x: x @ torch.full((4,), 0.25).to(x),
        "cumsum": lambda x: x.cumsum(-1)[:, -1] / 4,
        "avg_pool1d": lambda x: F.avg_pool1d(x[:, None], 4).flatten(),
        "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x[:, None], 1).flatten(),
        "unbind": lambda x: sum(x.unbind(-1)) / 4,
        "einsum": lambda x: torch.einsum("bi->b", x) / 4,
    }),
    Group("global average pooling", {
        "mean": lambda x: x.mean((2, 3)),
        "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 3)[:, :, 0, 0],
        "twice": lambda x: x.mean(3).mean(2),
        "convolution": lambda x: F.conv2d(x, torch.full((4, 1, 3, 3), 1 / 9).to(x), groups=4).flatten(1),
        "flattened": lambda x: x.flatten(2).sum(-1) / 9,
    }, live=((2, 4, 3, 3),)),
    Group("global max pooling", {
        "amax": lambda x: x.amax((2, 3)),
        "adaptive": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
        "max_pool2d": lambda x: F.max_pool2d(x, 3).flatten(1),
        "max": lambda x: x.flatten(2).max(-1).values,
        "twice": lambda x: x.max(3).values.max(2).values,
        "sort": lambda x: x.flatten(2).sort(-1).values[..., -1],
        "topk": lambda x: x.flatten(2).topk(1, -1).values[..., 0],
        "max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 9).squeeze(-1),
    }, live=((2, 4, 3, 3),)),
)  # fmt: skip

MOVES = (
    Group("parts", {
        "slices": lambda x: x[:, :2] @ x[:, 2:].t(),
        "split": lambda x: (lambda a, b: a @ b.t())(*x.split(2, 1)),
        "split with sizes": lambda x: (lambda a, b: a @ b.t())(*x.split([2, 2], 1)),
        "chunk": lambda x: (lambda a, b: a @ b.t())(*x.chunk(2, 1)),
        "tensor_split": lambda x: (lambda a, b: a @ b.t())(*x.tensor_split(2, 1)),
        "narrow": lambda x: x.narrow(1, 0, 2) @ x.narrow(1, 2, 2).t(),
        "unbind": lambda x: (lambda a, b: a @ b.t())(*x.view(3, 2, 2).unbind(1)),
        "select": lambda x: x.view(3, 2, 2)[:, 0] @ x.view(3, 2, 2)[:, 1].t(),
        "index_select": lambda x: x.index_select(1, torch.tensor([0, 1])) @ x[:, [2, 3]].t(),
        "gather": lambda x: x.gather(1, torch.tensor([[0, 1]] * 3)) @ x[..., 2:].mT,
        "unflatten": lambda x: (lambda t: t[:, 0] @ t[:, 1].t())(x.unflatten(1, (2, 2))),
        "roll": lambda x: x[:, :2] @ x.roll(2, 1)[:, :2].t(),
        "masked_select": lambda x: x[:, :2] @ x[torch.arange(4).expand(3, 4) > 1].view(3, 2).t(),
        "as_strided": lambda x: x.as_strided((3, 2), (4, 1)) @ x.as_strided((3, 2), (4, 1), 2).t(),
    }, batched=False),
    Group("joined", {
        "cat": lambda a, b: torch.cat([a, b], 1),
        "stack": lambda a, b: torch.stack([a, b], 1).flatten(1),
        "padded and added": lambda a, b: F.pad(a, (0, 4)) + F.pad(b, (4, 0)),
        "written": lambda a, b: (lambda out: (out.__setitem__((slice(None), slice(0, 4)), a),
            out.__setitem__((slice(None), slice(4, 8)), b), out)[2])(torch.zeros(3, 8).to(a)),
        "hstack": lambda a, b: torch.hstack((a, b)),
        "where": lambda a, b: torch.where(torch.arange(8) < 4, a.repeat(1, 2), b.repeat(1, 2)),
        "index_copy": lambda a, b: torch.cat([a, a], 1).slice_scatter(b, 1, 4, 8),
        "scatter": lambda a, b: F.pad(a, (0, 4)).scatter(1, torch.arange(4, 8).expand(3, 4), b),
    }, live=((3, 4), (3, 4))),
    Group("shape", {
        "transpose": lambda x: x.transpose(1, 2),
        "mT": lambda x: x.mT,
        "permute": lambda x: x.permute(0, 2, 1),
        "einsum": lambda x: torch.einsum("bij->bji", x),
        "movedim": lambda x: x.movedim(1, 2),
        "stacked columns": lambda x: torch.stack(x.unbind(2), 1),
        "swapaxes, clone": lambda x: x.swapaxes(1, 2).clone(),
        "flat and back": lambda x: x.reshape(2, -1)[:, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]].view(2, 4, 3),
    }, live=((2, 3, 4),)),
    Group("repeated", {
        "expand": lambda x: x[:, None].expand(3, 2, 4).reshape(3, 8),
        "repeat": lambda x: x.repeat(1, 2),
        "cat": lambda x: torch.cat([x, x], 1),
        "tile": lambda x: torch.tile(x, (1, 2)),
        "broadcast": lambda x: (x[:, None] * torch.ones(2, 1).to(x)).flatten(1),
        "index": lambda x: x[:, [0, 1, 2, 3] * 2],
        "stack": lambda x: torch.stack([x, x], 1).view(3, 8),
    }),
)  # fmt: skip
