"""What `import datasov as ds` gives."""

from __future__ import annotations

import datasov as ds
from datasov import errors


def test_every_error_that_a_caller_can_meet_is_exported():
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DatasovError)
    }
    assert tree - set(ds.__all__) == {"ConflictError"}, "which is always retried"


def test_names_are_there_once_and_in_order():
    assert list(ds.__all__) == sorted(set(ds.__all__))
    assert all(hasattr(ds, name) for name in ds.__all__)
