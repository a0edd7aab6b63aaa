"""Jobs in the store: what is claimed, kept, counted, forgotten and bounded, on both databases."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, text, update

from plateblur.accounts import jobs as job_store
from plateblur.accounts import upkeep
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_queue import (
    CLAIM_BYTES,
    CLAIM_FOR,
    MAX_CLAIMS,
    WEBHOOK_WAITS,
    StoreQueue,
)
from plateblur.accounts.job_types import (
    Claim,
    ItemResult,
    ItemState,
    JobLimitError,
    JobLimits,
    JobState,
    NewItem,
    ResultView,
    Webhook,
    WebhookState,
)
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.models import Account, Job, JobItem
from plateblur.accounts.sealing import Seal, SealError
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountStatus,
    DailyQuotaError,
    Identity,
    NotFoundError,
    Once,
    OtherRequestError,
    PaidQuotaError,
    PlanKind,
)
from tests.accounts.fakes import (
    NOW,
    SECRET,
    CountingHasher,
    TurnableClock,
    make_account,
)

LIMITS = JobLimits(
    jobs=3, photos=5, account_bytes=100_000, all_bytes=150_000, keep=timedelta(hours=24)
)
PHOTO, BLURRED = b"a photo of " + bytes(100), b"a blurred photo of " + bytes(100)
RESULT = ItemResult(BLURRED, "image/jpeg", b'{"detections": []}', 3)
HOOK = Webhook("https://example.com/done?token=abc", "whsec_c2VjcmV0")


@pytest.fixture
def jobs(store: Store, clock: TurnableClock) -> StoreJobs:
    return StoreJobs(store, LIMITS, clock=clock)


@pytest.fixture
def queue(store: Store, clock: TurnableClock) -> StoreQueue:
    return StoreQueue(store, LIMITS, clock=clock)


@pytest.fixture
def ana(store: Store) -> Identity:
    return make_account(store, plan=PlanKind.MONTHLY)


@pytest.fixture
def ion(store: Store) -> Identity:
    return make_account(store, plan=PlanKind.TRIAL, email="ion@plates.io")


def begin(
    jobs: StoreJobs,
    who: Identity,
    *photos: bytes,
    webhook: Webhook | None = None,
    once: Once | None = None,
    room_bytes: int = 2000,
) -> str:
    job_id = jobs.begin(who.account_id, room_bytes=room_bytes)
    for number, photo in enumerate(photos or (PHOTO,), 1):
        jobs.add(job_id, [NewItem(f"street {number}.jpg", photo=photo)])
    return jobs.open(job_id, options=b"{}", webhook=webhook, once=once)


def work(gate: StoreGate, queue: StoreQueue, result: ItemResult = RESULT) -> int:
    """Blur whatever waits, and return how many photos that were."""
    done = 0
    while claim := claim_one(queue):
        assert finish(gate, queue, claim, result)
        done += 1
    return done


def finish(gate: StoreGate, queue: StoreQueue, claim: Claim, result: ItemResult = RESULT) -> bool:
    plan = gate.active_plan(Identity(claim.account_id, ""))
    return queue.finish(plan, [(claim, result)]) == [True]


def claim_one(queue: StoreQueue, *, clips: bool = False) -> Claim | None:
    claims = queue.claim(clips=clips)
    return claims[0] if claims else None


def counted(gate: StoreGate, who: Identity) -> tuple[int, int]:
    from plateblur.accounts.quota import days_of_use

    days = days_of_use(gate._store, who.account_id, since=NOW.date())
    return sum(day.requests for day in days), sum(day.predictions for day in days)


def test_a_job_is_worked_on_and_its_results_are_fetched_once(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = begin(jobs, ana, PHOTO, PHOTO + b"2")
    view = jobs.view(ana.account_id, job_id)
    assert view.state is JobState.WORKING
    assert [one.state for one in view.items] == [ItemState.WAITING] * 2
    assert [one.name for one in view.items] == ["street 1.jpg", "street 2.jpg"]
    first = claim_one(queue)
    assert first is not None
    assert (first.photo, first.url, first.options) == (PHOTO, None, b"{}")
    assert finish(gate, queue, first)
    assert jobs.view(ana.account_id, job_id).items[0].answer == RESULT.answer
    assert work(gate, queue) == 1
    view = jobs.view(ana.account_id, job_id)
    assert (view.state, view.finished_at) == (JobState.DONE, NOW)
    assert counted(gate, ana) == (2, 6)
    assert jobs.result(ana.account_id, job_id, 1).photo == BLURRED
    assert jobs.result(ana.account_id, job_id, 1).photo == BLURRED  # an answer that was lost
    jobs.forget_results(ana.account_id, job_id, [1])
    with pytest.raises(NotFoundError):
        jobs.result(ana.account_id, job_id, 1)
    assert jobs.view(ana.account_id, job_id).items[0].state is ItemState.FETCHED


def test_a_url_waits_as_it_is(jobs: StoreJobs, queue: StoreQueue, ana: Identity) -> None:
    job_id = jobs.begin(ana.account_id, room_bytes=100)
    jobs.add(job_id, [NewItem("https://a.example/1.jpg", url="https://a.example/1.jpg")])
    jobs.open(job_id, options=b"{}", webhook=None, once=None)
    claim = claim_one(queue)
    assert claim is not None
    assert (claim.photo, claim.url) == (None, "https://a.example/1.jpg")


def test_nobody_works_on_a_job_that_is_still_arriving(
    jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = jobs.begin(ana.account_id, room_bytes=1000)
    jobs.add(job_id, [NewItem("a", photo=PHOTO)])
    assert claim_one(queue) is None
    with pytest.raises(NotFoundError):
        jobs.view(ana.account_id, job_id)


def test_another_account_sees_nothing_of_it(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, ion: Identity
) -> None:
    job_id = begin(jobs, ana)
    work(gate, queue)
    for call in (
        lambda: jobs.view(ion.account_id, job_id),
        lambda: jobs.result(ion.account_id, job_id, 1),
        lambda: jobs.result_bytes(ion.account_id, job_id, 1),
        lambda: jobs.delete(ion.account_id, job_id),
    ):
        with pytest.raises(NotFoundError):
            call()
    jobs.forget_results(ion.account_id, job_id, [1])
    assert jobs.result(ana.account_id, job_id, 1).photo == BLURRED
    assert jobs.result_bytes(ana.account_id, job_id, 1) == len(BLURRED)
    assert (jobs.jobs_of(ana.account_id), jobs.jobs_of(ion.account_id)) == ([job_id], [])


# --- What is in the database ---------------------------------------------------------------------


def everything(store: Store) -> bytes:
    with store.read() as connection:
        rows = [
            list(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608
            for table in ("jobs", "job_items")
        ]
    return repr(
        [[bytes(v) if isinstance(v, memoryview) else v for v in r] for t in rows for r in t]
    ).encode()


def test_the_database_alone_tells_nothing_of_a_photo(
    gate: StoreGate, store: Store, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    begin(jobs, ana, webhook=HOOK)
    held = everything(store)
    work(gate, queue, replace(RESULT, answer=b'{"detections": "secret"}'))
    held += everything(store)
    for plain in (b"a photo of", b"a blurred photo of", b"street 1.jpg", b"example.com",
                  b"c2VjcmV0", b"secret"):  # fmt: skip
        assert plain not in held


def test_each_job_has_a_key_of_its_own_and_the_secret_alone_opens_it(
    store: Store, jobs: StoreJobs, ana: Identity
) -> None:
    begin(jobs, ana)
    begin(jobs, ana)
    with store.read() as connection:
        (a, b) = connection.execute(select(Job.id, Job.sealed_key)).all()
    wrapping = job_store.wrapping_seal(store)
    Seal.unwrap(a.sealed_key, by=wrapping, purpose=a.id)
    with pytest.raises(SealError):
        Seal.unwrap(a.sealed_key, by=wrapping, purpose=b.id)
    other = Store(store.engine.url, secret=b"another secret of enough bytes.....")
    with pytest.raises(SealError):
        Seal.unwrap(a.sealed_key, by=job_store.wrapping_seal(other), purpose=a.id)
    other.close()


def test_what_is_swapped_in_the_database_is_not_handed_out(
    gate: StoreGate, store: Store, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = begin(jobs, ana, PHOTO, PHOTO + b"2")
    with store.write() as connection:
        one, two = connection.execute(select(JobItem.photo).order_by(JobItem.number)).scalars()
        for number, content in ((1, two), (2, one)):
            connection.execute(
                update(JobItem).where(JobItem.number == number).values(photo=content)
            )
    with pytest.raises(SealError):
        claim_one(queue)
    assert jobs.view(ana.account_id, job_id).state is JobState.WORKING


@pytest.mark.parametrize("how", ["deleted", "expired", "account deleted"])
def test_a_job_goes_with_its_key_and_photos(
    store: Store,
    jobs: StoreJobs,
    queue: StoreQueue,
    ana: Identity,
    clock: TurnableClock,
    how: str,
    tmp_path: object,
) -> None:
    from pathlib import Path

    job_id = begin(jobs, ana)
    if how == "deleted":
        jobs.delete(ana.account_id, job_id)
    elif how == "expired":
        clock.turn(hours=24)
        with pytest.raises(NotFoundError):
            jobs.view(ana.account_id, job_id)
        upkeep.prune(store, outbox=Path(str(tmp_path)) / "outbox", now=clock())
    else:
        with store.write() as connection:
            connection.execute(delete(Account).where(Account.id == ana.account_id))
    assert everything(store) == b"[]"
    assert claim_one(queue) is None


# --- Who works on what ---------------------------------------------------------------------------


def test_accounts_take_turns_and_so_do_their_jobs(
    jobs: StoreJobs, queue: StoreQueue, ana: Identity, ion: Identity, clock: TurnableClock
) -> None:
    for who, photos in ((ana, [b"a1", b"a2", b"a3"]), (ana, [b"b1"]), (ion, [b"c1", b"c2"])):
        begin(jobs, who, *photos)
        clock.turn(seconds=1)
    order = []
    while claim := claim_one(queue):
        order.append(claim.photo)
        clock.turn(seconds=1)
    assert order == [b"a1", b"c1", b"b1", b"c2", b"a2", b"a3"]


@pytest.mark.slow
def test_a_host_that_is_stuck_while_it_claims_stops_nobody(
    store: Store, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    begin(jobs, ana, b"its turn")
    clock.turn(seconds=1)
    begin(jobs, ana, b"the next")
    if store.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    with store.write() as stuck:
        of_first = select(JobItem.id).order_by(JobItem.id).limit(1).with_for_update()
        assert stuck.execute(of_first).first() is not None
        claim = claim_one(queue)
        assert claim is not None
        assert claim.photo == b"the next"
        assert claim_one(queue) is None
    claim = claim_one(queue)
    assert claim is not None
    assert claim.photo == b"its turn"


@pytest.mark.slow
def test_a_job_is_deleted_while_another_host_claims_a_photo_of_it(
    store: Store, jobs: StoreJobs, ana: Identity
) -> None:
    if store.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    job_id = begin(jobs, ana)
    with ThreadPoolExecutor(1) as other:
        with store.write() as claiming:
            claiming.execute(select(JobItem.id).with_for_update())
            deleted = other.submit(jobs.delete, ana.account_id, job_id)
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not claiming.execute(waiting).scalar_one():
                assert not deleted.done()
            claiming.execute(update(Job).values(claimed_at=NOW))  # what `claim` does next
        deleted.result(60)
    assert jobs.jobs_of(ana.account_id) == []


def test_a_claim_that_ran_out_is_given_to_another_and_counts_no_more(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    job_id = begin(jobs, ana)
    slow = claim_one(queue)
    assert slow is not None
    assert claim_one(queue) is None
    clock.turn(seconds=CLAIM_FOR.total_seconds() - 1)
    queue.renew([slow.token])
    clock.turn(seconds=CLAIM_FOR.total_seconds() - 1)
    assert claim_one(queue) is None
    clock.turn(seconds=1)
    quick = claim_one(queue)
    assert quick is not None
    queue.renew([slow.token])
    assert not finish(gate, queue, slow)
    queue.fail(slow, cd="2001", error="too late")
    queue.put_back(slow)
    assert finish(gate, queue, quick)
    assert counted(gate, ana) == (1, 3)
    assert jobs.view(ana.account_id, job_id).items[0].state is ItemState.DONE


def test_clips_and_photos_are_claimed_apart(
    jobs: StoreJobs, queue: StoreQueue, gate: StoreGate, ana: Identity
) -> None:
    job_id = jobs.begin(ana.account_id, room_bytes=2000)
    jobs.add(job_id, [NewItem("drive.mp4", photo=b"a clip", media_type="video/mp4")])
    jobs.add(job_id, [NewItem("street.jpg", photo=PHOTO)])
    jobs.open(job_id, options=b"{}", webhook=None, once=None)
    photo = claim_one(queue)
    assert photo is not None
    assert (photo.photo, photo.media_type) == (PHOTO, None)
    assert claim_one(queue) is None
    clip = claim_one(queue, clips=True)
    assert clip is not None
    assert (clip.photo, clip.media_type) == (b"a clip", "video/mp4")
    assert claim_one(queue, clips=True) is None
    assert finish(gate, queue, photo)
    assert finish(gate, queue, clip, ItemResult(b"blurred", "video/mp4", b"{}", 250))
    assert counted(gate, ana) == (2, 3 + 250)
    found = jobs.view(ana.account_id, job_id).items
    assert [one.media_type for one in found] == ["video/mp4", "image/jpeg"]


def test_whose_claim_no_longer_holds_is_told_so(
    jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    stays, goes = begin(jobs, ana), begin(jobs, ana)
    claims = [claim_one(queue), claim_one(queue)]
    tokens = [claim.token for claim in claims if claim is not None]
    assert queue.renew(tokens) == set(tokens)
    jobs.delete(ana.account_id, goes)
    (held,) = queue.renew(tokens)
    assert held in tokens
    jobs.delete(ana.account_id, stays)
    assert queue.renew(tokens) == set()


def test_a_photo_that_is_begun_again_and_again_fails(
    jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    job_id = begin(jobs, ana)
    for _ in range(MAX_CLAIMS):
        assert claim_one(queue) is not None
        clock.turn(seconds=CLAIM_FOR.total_seconds())
    assert claim_one(queue) is None
    view = jobs.view(ana.account_id, job_id)
    assert (view.state, view.items[0].state) == (JobState.DONE, ItemState.FAILED)
    assert view.items[0].cd == "2001"


def test_what_is_put_back_is_claimed_again_as_if_nothing_was(
    jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    begin(jobs, ana)
    for _ in range(2 * MAX_CLAIMS):
        claim = claim_one(queue)
        assert claim is not None
        queue.put_back(claim)


def test_a_failed_photo_ends_the_job_and_is_not_counted(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = begin(jobs, ana)
    claim = claim_one(queue)
    assert claim is not None
    queue.fail(claim, cd="2001", error="It is damaged.")
    view = jobs.view(ana.account_id, job_id)
    assert view.state is JobState.DONE
    assert (view.items[0].cd, view.items[0].error) == ("2001", "It is damaged.")
    assert counted(gate, ana) == (0, 0)


def test_nothing_of_a_locked_account_is_worked_on(
    store: Store, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    begin(jobs, ana)
    with store.write() as connection:
        connection.execute(update(Account).values(status=AccountStatus.LOCKED))
    assert claim_one(queue) is None


def test_a_job_that_is_deleted_while_a_photo_is_in_work_counts_nothing_more(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = begin(jobs, ana)
    claim = claim_one(queue)
    assert claim is not None
    jobs.delete(ana.account_id, job_id)
    assert not finish(gate, queue, claim)
    assert counted(gate, ana) == (0, 0)


@pytest.mark.slow
def test_parallel_workers_never_get_the_same_photo(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    wide = StoreJobs(gate._store, replace(LIMITS, photos=40), clock=lambda: NOW)
    begin(wide, ana, *(b"photo %d" % n for n in range(40)))

    def one(_: int) -> list[bytes]:
        mine = []
        for _ in range(40):
            claim = claim_one(queue)
            if claim is not None:
                assert finish(gate, queue, claim)
                mine.append(claim.photo or b"")
        return mine

    with ThreadPoolExecutor(6) as workers:
        done = [photo for mine in workers.map(one, range(6)) for photo in mine]
    assert sorted(done) == sorted(b"photo %d" % n for n in range(40))
    assert counted(gate, ana) == (40, 120)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before its result", "after its result"])
def test_a_photo_whose_worker_was_killed_is_answered_once_and_counted_once(
    gate: StoreGate,
    jobs: StoreJobs,
    queue: StoreQueue,
    ana: Identity,
    url: str,
    clock: TurnableClock,
    after: bool,
) -> None:
    job_id = begin(jobs, ana)
    process = multiprocessing.get_context("spawn").Process(target=die, args=(url, after))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    clock.turn(seconds=CLAIM_FOR.total_seconds())
    assert work(gate, queue) == (0 if after else 1)
    assert counted(gate, ana) == (1, 3)
    assert jobs.result(ana.account_id, job_id, 1).photo == BLURRED


def die(url: str, after: bool) -> None:
    store = Store(url, secret=SECRET)
    queue = StoreQueue(store, LIMITS, clock=lambda: NOW)
    gate = StoreGate(store, hasher=CountingHasher(), clock=lambda: NOW)
    claim = claim_one(queue)
    assert claim is not None
    if after:
        finish(gate, queue, claim)
    os.kill(os.getpid(), signal.SIGKILL)


# --- Photos that are claimed and finished together -----------------------------------------------


def finish_all(
    gate: StoreGate, queue: StoreQueue, claims: list[Claim], result: ItemResult = RESULT
) -> list[bool]:
    plan = gate.active_plan(Identity(claims[0].account_id, ""))
    return queue.finish(plan, [(claim, result) for claim in claims])


def test_small_photos_of_a_job_are_claimed_together_in_their_order(
    gate: StoreGate,
    jobs: StoreJobs,
    queue: StoreQueue,
    ana: Identity,
    ion: Identity,
    clock: TurnableClock,
) -> None:
    job_id = begin(jobs, ana, b"a1", b"a2", b"a3", b"a4", b"a5")
    clock.turn(seconds=1)
    begin(jobs, ion, b"c1")
    first = queue.claim(most=4)
    assert [claim.photo for claim in first] == [b"a1", b"a2", b"a3", b"a4"]
    assert len({claim.token for claim in first}) == 1
    assert [claim.photo for claim in queue.claim(most=4)] == [b"c1"]  # the other account's turn
    last = queue.claim(most=4)
    assert [claim.photo for claim in last] == [b"a5"]
    assert queue.claim(most=4) == []
    assert finish_all(gate, queue, first) == [True] * 4
    assert jobs.view(ana.account_id, job_id).state is JobState.WORKING
    assert finish_all(gate, queue, last) == [True]
    assert jobs.view(ana.account_id, job_id).state is JobState.DONE
    assert counted(gate, ana) == (5, 15)
    assert [jobs.result(ana.account_id, job_id, n).photo for n in range(1, 6)] == [BLURRED] * 5


def test_a_photo_that_is_long_or_that_is_to_be_fetched_is_claimed_alone(
    store: Store, queue: StoreQueue, ana: Identity
) -> None:
    long, short = bytes(CLAIM_BYTES), b"short"
    wide = StoreJobs(
        store, replace(LIMITS, account_bytes=2**30, all_bytes=2**30), clock=lambda: NOW
    )
    job_id = wide.begin(ana.account_id, room_bytes=2**25)
    wide.add(job_id, [NewItem("1", photo=short), NewItem("2", photo=long)])
    wide.add(job_id, [NewItem("3", url="https://a.example/3.jpg")])
    wide.add(job_id, [NewItem("4", photo=short), NewItem("5", photo=short)])
    wide.open(job_id, options=b"{}", webhook=None, once=None)
    sizes = []
    while claims := queue.claim(most=4):
        sizes.append([len(claim.photo or b"") for claim in claims])
    assert sizes == [[5], [CLAIM_BYTES], [0], [5, 5]]


def test_photos_whose_host_went_down_are_claimed_one_by_one(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    begin(jobs, ana, b"1", b"2", b"3", b"4")
    dying = queue.claim(most=3)
    assert finish_all(gate, queue, dying[:1]) == [True]
    clock.turn(seconds=CLAIM_FOR.total_seconds())
    claimed = []
    while claims := queue.claim(most=4):
        claimed.append([claim.photo for claim in claims])
        assert finish_all(gate, queue, claims) == [True] * len(claims)
    assert claimed == [[b"2"], [b"3"], [b"4"]]
    assert counted(gate, ana) == (4, 12)


def test_a_photo_that_ends_every_host_does_not_use_up_the_claims_of_those_beside_it(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    job_id = begin(jobs, ana, b"good", b"deadly", b"good")
    for _ in range(2 * MAX_CLAIMS):
        claims = queue.claim(most=3)
        if claims and b"deadly" not in [claim.photo for claim in claims]:
            finish_all(gate, queue, claims)
        clock.turn(seconds=CLAIM_FOR.total_seconds())
    states = [one.state for one in jobs.view(ana.account_id, job_id).items]
    assert states == [ItemState.DONE, ItemState.FAILED, ItemState.DONE]
    assert counted(gate, ana) == (2, 6)


def test_where_a_claim_ran_out_for_one_of_them_the_others_still_count(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    job_id = begin(jobs, ana, b"1", b"2", b"3")
    slow = queue.claim(most=3)
    clock.turn(seconds=CLAIM_FOR.total_seconds())
    (quick,) = queue.claim(most=3)
    assert quick.photo == b"1"
    assert queue.renew([slow[0].token, quick.token]) == {slow[0].token, quick.token}
    assert queue.claim(most=3) == []
    assert finish_all(gate, queue, slow) == [False, True, True]
    assert jobs.view(ana.account_id, job_id).state is JobState.WORKING
    assert finish_all(gate, queue, [quick]) == [True]
    assert finish_all(gate, queue, slow) == [False] * 3  # told twice, as after a lost answer
    assert jobs.view(ana.account_id, job_id).state is JobState.DONE
    assert counted(gate, ana) == (3, 9)


@pytest.mark.parametrize("how", ["deleted", "put back"])
def test_photos_that_are_taken_away_from_a_claim_do_not_count(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, how: str
) -> None:
    job_id = begin(jobs, ana, b"1", b"2")
    claims = queue.claim(most=2)
    if how == "deleted":
        jobs.delete(ana.account_id, job_id)
        expected = [False, False]
    else:
        queue.put_back(claims[0])
        expected = [False, True]
    assert finish_all(gate, queue, claims) == expected
    assert counted(gate, ana) == (sum(expected), 3 * sum(expected))
    assert [one.photo for one in queue.claim(most=2)] == ([] if how == "deleted" else [b"1"])


def test_photos_are_kept_together_only_where_there_is_room_for_all(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = begin(jobs, ana, b"1", b"2")
    claims = queue.claim(most=2)
    with pytest.raises(PaidQuotaError):
        finish_all(gate, queue, claims, replace(RESULT, predictions=5_001))
    with pytest.raises(JobLimitError):
        finish_all(gate, queue, claims, replace(RESULT, photo=bytes(50_000)))
    assert counted(gate, ana) == (0, 0)
    assert gate.usage(ana, gate.active_plan(ana)).predictions == 0
    states = [one.state for one in jobs.view(ana.account_id, job_id).items]
    assert states == [ItemState.WORKING] * 2
    first, second = claims
    assert finish_all(gate, queue, [first], replace(RESULT, predictions=5_001)) == [True]
    with pytest.raises(PaidQuotaError):
        finish_all(gate, queue, [second], replace(RESULT, predictions=5_001))
    assert counted(gate, ana) == (1, 5_001)


@pytest.mark.slow
def test_a_host_that_is_killed_with_several_photos_loses_none_and_counts_none_twice(
    gate: StoreGate,
    jobs: StoreJobs,
    queue: StoreQueue,
    ana: Identity,
    url: str,
    clock: TurnableClock,
) -> None:
    job_id = begin(jobs, ana, b"1", b"2", b"3", b"4", b"5")
    process = multiprocessing.get_context("spawn").Process(target=die_among_several, args=(url,))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert counted(gate, ana) == (2, 6)
    clock.turn(seconds=CLAIM_FOR.total_seconds())
    assert work(gate, queue) == 3
    assert counted(gate, ana) == (5, 15)
    assert jobs.view(ana.account_id, job_id).state is JobState.DONE


def die_among_several(url: str) -> None:
    store = Store(url, secret=SECRET)
    queue = StoreQueue(store, LIMITS, clock=lambda: NOW)
    gate = StoreGate(store, hasher=CountingHasher(), clock=lambda: NOW)
    claims = queue.claim(most=4)
    finish_all(gate, queue, claims[1:3])
    with store.write() as connection:  # in the middle of the next transaction
        connection.execute(update(JobItem).values(state=ItemState.DONE))
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_parallel_workers_that_claim_several_never_get_the_same_photo(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, ion: Identity
) -> None:
    wide = StoreJobs(gate._store, replace(LIMITS, photos=40), clock=lambda: NOW)
    for who in (ana, ion):
        begin(wide, who, *(b"%d of %d" % (n, who.account_id) for n in range(20)))

    def some(_: int) -> list[bytes]:
        mine = []
        for _ in range(20):
            if claims := queue.claim(most=3):
                assert finish_all(gate, queue, claims) == [True] * len(claims)
                mine += [claim.photo or b"" for claim in claims]
        return mine

    with ThreadPoolExecutor(6) as workers:
        done = [photo for mine in workers.map(some, range(6)) for photo in mine]
    assert len(done) == len(set(done)) == 40
    assert (counted(gate, ana), counted(gate, ion)) == ((20, 60), (20, 60))


def test_all_results_of_a_job_are_listed_and_forgotten_together(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, ion: Identity
) -> None:
    job_id = begin(jobs, ana, b"1", b"2", b"3")
    with pytest.raises(NotFoundError):
        jobs.results(ana.account_id, job_id)  # none is done
    finish_all(gate, queue, queue.claim(most=2))
    found = jobs.results(ana.account_id, job_id)
    size = len(BLURRED)
    assert found == [ResultView(n, "image/jpeg", size) for n in (1, 2)]
    with pytest.raises(NotFoundError):
        jobs.results(ion.account_id, job_id)
    jobs.forget_results(ion.account_id, job_id, [1, 2])
    assert jobs.results(ana.account_id, job_id) == found
    work(gate, queue)  # a third, of which the ZIP knew nothing
    with gate._store.read() as connection:
        held = job_store.held_bytes(connection, ana.account_id)[0]
    for _ in range(2):
        jobs.forget_results(ana.account_id, job_id, [1, 2])
        assert jobs.results(ana.account_id, job_id) == [ResultView(3, "image/jpeg", size)]
        with gate._store.read() as connection:
            assert job_store.held_bytes(connection, ana.account_id)[0] == held - 2 * size


# --- What it costs, and what is allowed ----------------------------------------------------------


@pytest.mark.slow
def test_photos_of_a_job_count_on_the_trials_day(
    gate: StoreGate, store: Store, queue: StoreQueue, ion: Identity
) -> None:
    wide = StoreJobs(store, replace(LIMITS, photos=60), clock=lambda: NOW)
    begin(wide, ion, *(b"%d" % n for n in range(51)))
    for _ in range(50):
        claim = claim_one(queue)
        assert claim is not None
        assert finish(gate, queue, claim)
    last = claim_one(queue)
    assert last is not None
    with pytest.raises(DailyQuotaError):
        finish(gate, queue, last)
    with pytest.raises(DailyQuotaError), gate.admit(ion, gate.active_plan(ion)):
        pass
    assert counted(gate, ion) == (50, 150)


@pytest.mark.slow
def test_photos_of_a_job_count_on_the_month_and_not_on_the_minute(
    gate: StoreGate, store: Store, queue: StoreQueue, ana: Identity
) -> None:
    wide = StoreJobs(store, replace(LIMITS, photos=60), clock=lambda: NOW)
    begin(wide, ana, *(b"%d" % n for n in range(55)))
    assert work(gate, queue) == 55
    usage = gate.usage(ana, gate.active_plan(ana))
    assert (usage.window_requests, usage.predictions) == (0, 165)
    begin(wide, ana)
    claim = claim_one(queue)
    assert claim is not None
    with pytest.raises(PaidQuotaError):
        finish(gate, queue, claim, replace(RESULT, predictions=9_900))
    assert gate.usage(ana, gate.active_plan(ana)).predictions == 165
    assert finish(gate, queue, claim, replace(RESULT, predictions=9_835))


@pytest.mark.parametrize(
    "over",
    ["jobs", "photos", "the account", "all", "the request", "the result"],
)
def test_what_waits_is_bounded(
    gate: StoreGate,
    jobs: StoreJobs,
    queue: StoreQueue,
    ana: Identity,
    ion: Identity,
    over: str,
) -> None:
    with pytest.raises(JobLimitError):  # noqa: PT012
        if over == "jobs":
            for _ in range(4):
                begin(jobs, ana)
        elif over == "photos":
            begin(jobs, ana, *[b"photo"] * 6)
        elif over == "the account":
            begin(jobs, ana, bytes(60_000), room_bytes=60_000)
            begin(jobs, ana, room_bytes=40_001)
        elif over == "all":
            begin(jobs, ana, bytes(90_000), room_bytes=90_000)
            begin(jobs, ion, room_bytes=60_001)
        elif over == "the request":
            begin(jobs, ana, bytes(2001), room_bytes=2000)
        else:
            begin(jobs, ana)
            claim = claim_one(queue)
            assert claim is not None
            finish(gate, queue, claim, replace(RESULT, photo=bytes(100_001)))
    assert counted(gate, ana) == (0, 0)


def test_room_is_given_back_by_what_is_fetched_failed_or_deleted(
    gate: StoreGate, store: Store, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    def held() -> int:
        with store.read() as connection:
            return job_store.held_bytes(connection, ana.account_id)[0]

    rows, answer = 3 * job_store.ROW_BYTES, len(RESULT.answer)
    one = begin(jobs, ana, PHOTO, PHOTO)
    assert held() == rows + 2 * len(PHOTO)
    claim = claim_one(queue)
    assert claim is not None
    queue.fail(claim, cd="2001", error="")
    work(gate, queue)
    assert held() == rows + len(BLURRED) + answer
    jobs.forget_results(ana.account_id, one, [2])
    jobs.forget_results(ana.account_id, one, [2])
    assert held() == rows + answer
    jobs.delete(ana.account_id, one)
    assert held() == 0


def test_photos_that_fail_take_room_although_they_are_not_counted(
    store: Store, ana: Identity, clock: TurnableClock
) -> None:
    narrow = StoreJobs(store, replace(LIMITS, account_bytes=16 * job_store.ROW_BYTES), clock=clock)
    item = NewItem("notes.txt", photo=b"", error="the bytes are no photo.")
    with pytest.raises(JobLimitError):  # noqa: PT012
        for _ in range(10):
            job_id = narrow.begin(ana.account_id, room_bytes=100)
            narrow.add(job_id, [item])
            narrow.open(job_id, options=b"{}", webhook=None, once=None)
    assert len(narrow.jobs_of(ana.account_id)) == 8


def test_a_request_that_is_sent_again_is_the_same_job(
    jobs: StoreJobs, ana: Identity, clock: TurnableClock
) -> None:
    once = Once("key", b"photos and options")
    first = begin(jobs, ana, once=once)
    assert begin(jobs, ana, once=once) == first
    with pytest.raises(OtherRequestError):
        begin(jobs, ana, once=Once("key", b"other photos"))
    assert jobs.jobs_of(ana.account_id) == [first]
    clock.turn(hours=24)
    assert begin(jobs, ana, once=Once("key", b"other photos")) != first


# --- Webhooks ------------------------------------------------------------------------------------


def test_a_webhook_is_due_when_the_last_photo_is_done(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    job_id = begin(jobs, ana, PHOTO, PHOTO, webhook=HOOK)
    claim = claim_one(queue)
    assert claim is not None
    queue.fail(claim, cd="2001", error="")
    assert queue.due_webhook() is None
    work(gate, queue)
    due = queue.due_webhook()
    assert due is not None
    assert (due.job_id, due.attempt, due.webhook) == (job_id, 1, HOOK)
    assert due.counts == {"done": 1, "failed": 1}
    assert queue.due_webhook() is None
    queue.note_webhook(due, status=204)
    clock.turn(days=0, hours=12)
    assert queue.due_webhook() is None
    view = jobs.view(ana.account_id, job_id)
    assert (view.webhook, view.webhook_attempts, view.webhook_status) == (
        WebhookState.DELIVERED, 1, 204,
    )  # fmt: skip


def test_a_webhook_of_an_account_can_be_passed_over(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = begin(jobs, ana, PHOTO, webhook=HOOK)
    work(gate, queue)
    assert queue.due_webhook(passing_over={ana.account_id, 999}) is None
    due = queue.due_webhook(passing_over={999})
    assert due is not None
    assert (due.job_id, due.account_id) == (job_id, ana.account_id)


def test_a_webhook_is_tried_again_at_growing_intervals_and_then_reported(
    gate: StoreGate, store: Store, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    long = StoreJobs(store, replace(LIMITS, keep=timedelta(days=9)), clock=clock)
    job_id = begin(long, ana, webhook=HOOK)
    work(gate, queue)
    for attempt, wait in enumerate(WEBHOOK_WAITS, 1):
        if wait:
            clock.turn(seconds=wait.total_seconds() - 1)
            assert queue.due_webhook() is None
            clock.turn(seconds=1)
        due = queue.due_webhook()
        assert due is not None
        assert due.attempt == attempt
        queue.note_webhook(due, status=None if attempt % 2 else 503)
    clock.turn(days=2)
    assert queue.due_webhook() is None
    view = long.view(ana.account_id, job_id)
    assert (view.webhook, view.webhook_attempts) == (WebhookState.FAILED, len(WEBHOOK_WAITS))


@pytest.mark.parametrize(
    ("status", "state"), [(410, "failed"), (302, "waiting"), (200, "delivered")]
)
def test_what_the_receiver_answers_decides(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, status: int, state: str
) -> None:
    job_id = begin(jobs, ana, webhook=HOOK)
    work(gate, queue)
    due = queue.due_webhook()
    assert due is not None
    queue.note_webhook(due, status=status)
    assert jobs.view(ana.account_id, job_id).webhook == state


def test_a_webhook_whose_sender_was_killed_is_due_again(
    gate: StoreGate, jobs: StoreJobs, queue: StoreQueue, ana: Identity, clock: TurnableClock
) -> None:
    begin(jobs, ana, webhook=HOOK)
    work(gate, queue)
    lost = queue.due_webhook()
    assert lost is not None
    clock.turn(minutes=1)
    again = queue.due_webhook()
    assert again is not None
    assert again.attempt == 2
    queue.note_webhook(lost, status=500)  # who was taken for dead has no say
    queue.note_webhook(again, status=200)
    assert jobs.view(ana.account_id, again.job_id).webhook is WebhookState.DELIVERED


def test_a_job_of_nothing_but_failures_is_done_at_once(
    jobs: StoreJobs, queue: StoreQueue, ana: Identity
) -> None:
    job_id = jobs.begin(ana.account_id, room_bytes=100)
    jobs.add(job_id, [NewItem("notes.txt", photo=b"", error="the bytes are no photo.")])
    jobs.open(job_id, options=b"{}", webhook=HOOK, once=None)
    view = jobs.view(ana.account_id, job_id)
    assert (view.state, view.items[0].state) == (JobState.DONE, ItemState.FAILED)
    assert claim_one(queue) is None
    assert queue.due_webhook() is not None
