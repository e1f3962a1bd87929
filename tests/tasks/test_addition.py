"""Addition: lines say true sums, held-out pairs are never trained on, and right means what greedy writing makes."""

from __future__ import annotations

import torch

from dse.tasks import TASKS
from dse.tasks.addition import ALPHABET, lines
from dse.tasks.base import single


def test_lines_are_sums_of_pairs_that_are_not_held_out() -> None:
    for size, digits in (("tiny", 2), ("base", 3)):
        task = TASKS["addition"](size=size)
        data = task.load()
        assert len(data.x) + len(data.test_x) == 10 ** (2 * digits)
        held = {tuple(line) for line in lines(data.test_x, digits).tolist()}
        (batch,) = single(task, data, 3, 7, 64)
        for line in batch.tolist():
            text = "".join(ALPHABET[number] for number in line)
            a, b, total = text[:digits], text[digits + 1 : 2 * digits + 1], text[2 * digits + 2 : -1]
            assert text == f"{a}+{b}={int(a) + int(b):0{digits + 1}}\n"
            assert int(total) == int(a) + int(b)
            assert tuple(line) not in held
    assert sum(parameter.numel() for parameter in task.model(data).parameters()) == 3_942_144


def test_a_sum_is_right_where_the_model_would_write_it() -> None:
    task = TASKS["addition"]()
    data = task.load()
    torch.manual_seed(0)
    model = task.model(data)
    optimizer = torch.optim.Adam(model.parameters(), 8e-3)
    line = task.held_out(data)[0][0][:64]
    for _ in range(100):
        loss = task.loss(model, (line[:32],))  # the first half by heart
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    written = line[:, :6]  # greedy, one character at a time
    with torch.no_grad():
        for _ in range(4):
            written = torch.cat([written, model(written)[:, -1].argmax(-1, keepdim=True)], -1)
    exact = (written == line).all(-1).float().mean()
    with torch.no_grad():
        measured = task.measure(model, (line,))
    assert 0 < exact < 1
    assert measured["exact"] == exact
    assert measured["error"] == 1 - exact
    broken = task.measure(lambda tokens: model(tokens) * float("nan"), (line,))
    assert broken["error"].isnan()
