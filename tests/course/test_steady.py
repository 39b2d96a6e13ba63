import numpy as np

from minillm.course.steady import PART, roundings, steady
from minillm.ops import layer_norm


def answer(case):
    y, cache = layer_norm(*case["args"], eps=1e-5)
    return {"y": y, "grads": layer_norm.backward(case["dout"], cache)}


def case_of(x):
    x = np.asarray(x, np.float32)
    ones = np.full(x.shape[-1], 0.7, np.float32)
    return {"args": [x, ones, ones], "dout": np.arange(1.0, x.size + 1, dtype=np.float32)}


def test_a_row_of_nearly_equal_numbers_is_drawn_anew():
    rough, smooth = case_of([1000.0, 1000.001, 1000.002]), case_of([1.0, -2.0, 0.5])
    assert roundings(rough, answer) > 512
    assert roundings(smooth, answer) < PART * 512
    draws = iter([rough, rough, smooth])
    assert steady(lambda: next(draws), answer) is smooth


def test_where_all_are_rough_the_last_is_taken():
    rough = case_of([1000.0, 1000.001, 1000.002])
    assert steady(lambda: rough, answer) is rough
