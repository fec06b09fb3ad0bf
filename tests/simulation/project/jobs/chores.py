"""A hundred chores that go wrong in every way an author's own code can."""

from overnight import Permanent, Run, Skip, Transient, job


def chores_of(run: Run) -> list[int]:
    """The chores of a night."""
    return list(range(run.params.get("items", 100)))


@job(items=chores_of, key=lambda number: f"c_{number:04}")
async def chores(number: int, run: Run) -> int:
    """Do one chore, if chance lets it be done."""
    chance = run.clock.random()
    await run.clock.sleep(round(chance, 1))
    if chance < 0.01:
        raise Transient("the tap is dry", code="dry")
    if chance < 0.015:
        raise Transient("come back later", code="later", after=1800)
    if chance < 0.02:
        raise Permanent("there is no such chore", code="no_chore")
    if chance < 0.03:
        raise Skip("done by somebody else")
    if chance < 0.033:
        raise ZeroDivisionError("a bug")
    if chance > 0.999:
        await run.clock.sleep(1000)  # longer than its item_timeout
    return number
