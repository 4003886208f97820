"""What several passes over one store found, erased and left, as one result."""

from workers.personal_data.report import StoreResult, add_pass


def test_a_pass_that_failed_leaves_the_sum_incomplete() -> None:
    earlier = StoreResult(store="jsonl", found=3, erased=2, left=1, unreadable=1)
    later = StoreResult(store="jsonl", found=1, erased=1, why="The folder cannot be read.", failed=True)

    total = add_pass(earlier, later)

    assert (total.found, total.erased, total.left, total.unreadable, total.failed) == (3, 3, 0, 0, True)
    assert not total.is_complete
    assert add_pass(later, earlier).failed is False
