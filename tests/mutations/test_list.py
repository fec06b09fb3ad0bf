"""The list of mutations follows the engine: who edits a line it breaks is told here, not by `make mutations` later."""

import pytest

from tests.mutations.run import Mutation, mutations


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.promise)
def test_a_mutation_can_be_made_and_its_test_exists(mutation: Mutation) -> None:
    assert mutation.stale() == ""


def test_no_promise_is_listed_twice() -> None:
    promises = [mutation.promise for mutation in mutations()]
    assert len(promises) == len(set(promises))
