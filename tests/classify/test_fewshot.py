import numpy as np

from vlmdesc.classify import fewshot


def test_a():
    print(hasattr(fewshot.fit, "__wrapped__"))
    try:
        fewshot.fit(np.zeros((3, 2), np.float32), np.zeros(2, int), np.zeros((3, 2), np.float32))
    except Exception as e:
        print(type(e), type(e).__mro__)
    try:
        fewshot.fit(np.zeros((3, 2), np.float32), np.zeros(3, int), np.zeros((2, 2), np.float32))
    except Exception as e:
        print(type(e), type(e).__mro__)
