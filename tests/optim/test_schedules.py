import math

import pytest
import torch

from minillm.optim import SCHEDULES, constant, cosine, linear


def test_constant():
    assert {constant(0.3)(step) for step in range(100)} == {0.3}
    assert [constant(1.0, warmup=3)(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.05)
    ours = cosine(0.5, 40, final=0.05)
    for step in range(41):
        assert ours(step) == pytest.approx(peer.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        peer.step()


def test_linear_is_a_straight_line():
    rates = [linear(1.0, 12, warmup=2, final=0.5)(step) for step in range(15)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[2:13] == pytest.approx([1 - 0.05 * i for i in range(11)])
    assert rates[13:] == [0.5, 0.5]


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_meets_the_decay(name):
    rate = SCHEDULES[name](0.1, 100, warmup=10, final=0.01)
    rates = [rate(step) for step in range(120)]
    assert rates[10] == max(rates) == 0.1
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert min(rates) > 0
    assert rates[-1] == (0.1 if name == "constant" else 0.01)


def test_edges_and_mistakes():
    assert cosine(1.0, 0)(0) == 0
    assert cosine(1.0, 5, warmup=5)(4) == pytest.approx(5 / 6)
    assert math.isclose(cosine(1.0, 10)(5), 0.5)
    for make, message in (
        (lambda: cosine(-1.0, 10), "lr must be at least 0"),
        (lambda: cosine(1.0, 10, warmup=-1), "warmup must be at least 0"),
        (lambda: linear(1.0, 10, warmup=11), "steps must be at least warmup, 11, got 10"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
