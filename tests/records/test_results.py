import pickle

import numpy as np
import pytest

from vlmdesc.records import Embeddings
from vlmdesc.records.results import Concept, Selection


@pytest.mark.parametrize(
    "record",
    [
        Embeddings(np.eye(2, dtype=np.float32), ("a", "b"), "fake-1"),
        Selection(np.array([[0, 1]]), np.array([[[0], [-1]]]), np.array([[False, True]])),
        Concept(0, np.eye(3)[0], 0.5, (), (), True, 0.1, 0.2, 0.3),
    ],
)
def test_records_are_as_frozen_in_another_process_as_here(record):
    again = pickle.loads(pickle.dumps(record))
    assert type(again) is type(record)
    for name, value in vars(record).items():
        assert np.array_equal(getattr(again, name), value)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                getattr(again, name)[0] = 1
