"""Turns, refreshes and forgetting; with judges that wait for their test."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from page.visits import Advance, Check, Model, Stage, Visit, Visits
from reelcheck.errors import SourceError, StoreError
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.tables import Row


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Model:
    layout: ModelLayout = tiny.save_model(tmp_path_factory.mktemp("model") / "model")
    return Model("model", layout.path, read_card(layout))


class Judge:
    """Notes what it is given, and answers when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.has_begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def __call__(self, check: Check, advance: Advance) -> Row:
        advance(Stage.LOOKING)
        self.begun.append(check.name)
        self.has_begun.release()
        assert self.may_end.acquire(timeout=60)
        if check.name == "no model":
            raise StoreError("the model is gone")
        if check.name == "defect":
            raise ZeroDivisionError
        return {"score": 0.5, "name": check.name}


Opener = Callable[..., Visits]


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def opened(tmp_path: Path, judge: Judge) -> Iterator[Opener]:
    made: list[Visits] = []

    def open_visits(**settings: Any) -> Visits:
        made.append(Visits(tmp_path, judge, **{"num_lanes": 1, **settings}))
        return made[-1]

    yield open_visits
    for visits in made:
        visits.close()


def bring(visits: Visits, visit: Visit, model: Model, *names: str) -> list[Check]:
    checks = [
        Check(name=name, source="-", is_upload=True, model=model, folder=visit.make_folder())
        for name in names
    ]
    for check in checks:
        visits.add(visit, check)
    return checks


def finish(judge: Judge, check: Check, num_checks: int = 1) -> None:
    """Let so many answers be given, and wait for the check's."""
    for _ in range(num_checks):
        judge.may_end.release()
    waited = threading.Event()
    for _ in range(6000):
        if check.is_done:
            return
        waited.wait(0.01)
    raise AssertionError("no answer")


def test_visitors_take_turns(opened: Opener, judge: Judge, known: Model) -> None:
    visits = opened()
    many, one = visits.begin(), visits.begin()
    first = bring(visits, many, known, "a1", "a2", "a3")
    assert judge.has_begun.acquire(timeout=60)
    [only] = bring(visits, one, known, "b1")
    assert visits.count_before(only) == 0
    assert [visits.count_before(check) for check in first[1:]] == [1, 2]
    finish(judge, first[-1], 4)
    assert judge.begun == ["a1", "b1", "a2", "a3"]
    assert [check.row["name"] for check in [*first, only] if check.row] == ["a1", "a2", "a3", "b1"]


def test_two_are_judged_at_a_time(opened: Opener, judge: Judge, known: Model) -> None:
    visits = opened(num_lanes=2)
    checks = [bring(visits, visits.begin(), known, name)[0] for name in "ab"]
    assert judge.has_begun.acquire(timeout=60)
    assert judge.has_begun.acquire(timeout=60)  # before either has ended
    finish(judge, checks[0], 2)


def test_page_that_is_loaded_again_finds_its_visit_at_work(
    opened: Opener, judge: Judge, known: Model
) -> None:
    visits = opened()
    visit = visits.begin()
    [check] = bring(visits, visit, known, "a")
    assert judge.has_begun.acquire(timeout=60)
    again = visits.find(visit.token)
    assert again is visit
    assert again.checks == [check]
    finish(judge, check)
    assert judge.begun == ["a"]


@pytest.mark.parametrize("token", [None, "", "../..", "guessed"])
def test_nobody_else_finds_it(opened: Opener, token: str | None) -> None:
    visits = opened()
    visits.begin()
    assert visits.find(token) is None


def test_forgotten_visit_goes_with_its_files(opened: Opener, judge: Judge, known: Model) -> None:
    visits = opened(keep_seconds=0.0)
    visit = visits.begin()
    [check] = bring(visits, visit, known, "a")
    assert judge.has_begun.acquire(timeout=60)
    assert visits.find(visit.token) is visit  # it has work to do
    finish(judge, check)
    assert visits.find(visit.token) is None
    assert not visit.folder.exists()


def test_removed_check_takes_its_files_along(opened: Opener, judge: Judge, known: Model) -> None:
    visits = opened()
    visit = visits.begin()
    working, waiting = bring(visits, visit, known, "a", "b")
    assert judge.has_begun.acquire(timeout=60)
    visits.remove(visit, waiting)
    assert not waiting.folder.exists()
    visits.remove(visit, working)
    assert working.folder.exists()  # something is being written there
    [last] = bring(visits, visit, known, "c")
    finish(judge, last, 2)
    assert not working.folder.exists()
    assert judge.begun == ["a", "c"]


@pytest.mark.parametrize(
    ("name", "said"), [("no model", "the model is gone"), ("defect", "reelcheck itself failed")]
)
def test_failure_is_told_and_harms_nobody_else(
    opened: Opener, judge: Judge, known: Model, name: str, said: str
) -> None:
    visits = opened()
    failed, other = bring(visits, visits.begin(), known, name, "other")
    finish(judge, other, 2)
    assert failed.row is None
    assert said in (failed.problem or "")
    assert other.row is not None


def test_too_many_files_are_refused(opened: Opener, known: Model) -> None:
    visits = opened(max_checks=2)
    visit = visits.begin()
    bring(visits, visit, known, "a", "b")
    with pytest.raises(SourceError, match="2 files here already"):
        bring(visits, visit, known, "c")


def test_time_left_never_grows_with_the_stages(opened: Opener, judge: Judge, known: Model) -> None:
    visits = opened()
    first, second = bring(visits, visits.begin(), known, "a", "b")
    assert judge.has_begun.acquire(timeout=60)
    waiting, working = visits.estimate_seconds(second), visits.estimate_seconds(first)
    assert waiting is not None
    assert working is not None
    assert 0 < working < waiting
    assert visits.estimate_share(second) == 0.0
    assert 0 < visits.estimate_share(first) < 1
    finish(judge, second, 2)
    assert visits.estimate_seconds(second) == 0.0
    assert visits.estimate_share(second) == 1.0


def test_visit_takes_no_more_than_it_may_hold(opened: Opener) -> None:
    visits = opened(max_visit_bytes=50_000)
    visit, other = visits.begin(), visits.begin()
    visits.require_room(visit, 40_000)
    (visit.make_folder() / "file").write_bytes(bytes(30_000))
    with pytest.raises(SourceError, match="remove some"):
        visits.require_room(visit, 40_000)
    visits.require_room(other, 40_000)


def test_own_model_is_removed_when_nothing_needs_it_any_more(
    opened: Opener, judge: Judge, tiny: Any
) -> None:
    visits = opened()
    visit = visits.begin()
    layout = tiny.save_model(visit.make_folder())
    exports_dir = visit.make_folder()
    own = Model("mine", layout.path, read_card(layout), exports_dir)
    visit.models.append(own)
    [check] = bring(visits, visit, own, "a")
    with pytest.raises(SourceError, match="wait"):
        visits.remove_model(visit, own)
    assert own.path.exists()
    finish(judge, check)
    visits.remove_model(visit, own)
    assert visit.models == []
    assert not own.path.exists()
    assert not exports_dir.exists()


def test_model_of_the_operator_is_never_removed(opened: Opener, known: Model) -> None:
    visits = opened()
    visits.remove_model(visits.begin(), known)
    assert known.path.exists()
