"""Two coordinators on one database: one alone writes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedstill.service.store import tables
from fedstill.service.store.chain import verify_chain
from fedstill.service.store.store import NotLeading
from fedstill.service.store.tables import LetterRow

HASH = "ab" * 32
STALE_S = 30.0


def append(store):
    with store.writing() as w:
        return w.append(None, "x", 1.0, b"")


def test_one_leads_until_it_is_silent(opened):
    one, two = opened(), opened()
    assert one.lead("one", 100.0, STALE_S)
    assert not two.lead("two", 129.0, STALE_S)
    one.beat(120.0)
    assert not two.lead("two", 149.0, STALE_S)
    append(one)
    assert two.lead("two", 150.0, STALE_S)
    append(two)
    assert two.lease() == one.lease() == tables.Lease(2, "two", 150.0)
    for write in (lambda: append(one), lambda: one.beat(151.0)):
        with pytest.raises(NotLeading, match="'two' leads now"):
            write()
    one.release()  # of what it no longer has
    assert not one.lead("one", 179.0, STALE_S)
    append(two)
    assert len(list(one.records())) == 3


def test_the_same_owner_leads_again_and_its_earlier_process_is_out(opened):
    before, after = opened(), opened()
    assert before.lead("coordinator", 100.0, STALE_S)
    assert after.lead("coordinator", 100.5, STALE_S)
    append(after)
    with pytest.raises(NotLeading):
        append(before)
    with pytest.raises(NotLeading):
        before.beat(101.0)
    assert after.lead("coordinator", 90.0, STALE_S)  # its clock was set back
    append(after)


def test_who_gives_the_lead_away_writes_no_more(opened):
    one, two = opened(), opened()
    assert one.lead("one", 100.0, STALE_S)
    one.release()
    for write in (lambda: append(one), lambda: one.beat(101.0)):
        with pytest.raises(NotLeading, match="nobody leads now"):
            write()
    assert two.lead("two", 100.0, STALE_S)
    append(two)
    with pytest.raises(ValueError, match="has a name"):
        two.lead("", 100.0, STALE_S)


def test_beside_the_one_that_leads_an_operator_invites_and_says_so_and_no_more(opened):
    leader, operator = opened(), opened()
    append(operator)  # nobody leads
    leader.lead("leader", 100.0, STALE_S)
    with leader.writing() as w:
        w.add_run(b"", 1.0, "")
        w.append(1, "started", 1.0, b"")
    with operator.writing() as w:
        w.add_invitation(HASH, "bakery", "participant", 200.0)
        w.append(None, "invited", 1.0, b"")
        w.set_status("bakery", "revoked")
    append(leader)
    assert verify_chain(list(leader.records())) is None
    assert [record.kind for record in leader.records()] == ["x", "started", "invited", "x"]
    writes = (
        lambda w: w.append(1, "x", 1.0, b""),
        lambda w: w.add_run(b"", 1.0, ""),
        lambda w: w.set_run(1, ""),
        lambda w: w.add_letters([LetterRow("bakery", 1, 1, b"", HASH, 0, 1)]),
    )
    for write in writes:
        with pytest.raises(NotLeading, match="'leader' leads"), operator.writing() as w:
            write(w)
    assert leader.party("bakery").status == "revoked"


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["lead", "beat", "write", "release"]), st.integers(0, 2), st.integers(0, 40)),
        max_size=25,
    )
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_three_the_last_to_take_the_lead_writes(opened, steps):
    """Whatever they do at whatever times: checked against who took the lead last."""
    stores = [opened() for _ in range(3)]
    stores[0].lead("nobody else", 0.0, -1e9)
    stores[0].release()
    leads, heard, now = None, 0.0, 0.0
    for n, store in enumerate(stores):
        assert store.lead(f"{n}", 0.0, STALE_S)  # from here on, whoever does not lead is refused
        store.release()
    for step, n, later in steps:
        now += later
        if step == "lead":
            free = leads in (None, n) or now - heard >= STALE_S
            assert stores[n].lead(f"{n}", now, STALE_S) is free
            leads, heard = (n, now) if free else (leads, heard)
        elif step == "release":
            stores[n].release()
            leads = None if leads == n else leads
        else:
            with nullcontext() if leads == n else pytest.raises(NotLeading):
                append(stores[n]) if step == "write" else stores[n].beat(now)
            heard = now if (step, n) == ("beat", leads) else heard
    for store in stores:
        store.close()


def test_two_who_fight_for_the_lead_never_both_write(opened, together):
    """Each takes the lead from the other as often as it can, and writes its name until it is told no."""

    def fighter(store, name):
        def fight():
            refused = 0
            for _ in range(15):
                assert store.lead(name, 0.0, 0.0)
                try:
                    for _ in range(3):
                        with store.writing() as w:
                            w.append(None, name, 1.0, f"{w.lease().owner} {w.lease().epoch}".encode())
                except NotLeading:
                    refused += 1
            return refused

        return fight

    stores = [opened(), opened()]
    refused = together(fighter(stores[0], "one"), fighter(stores[1], "two"))
    records = list(stores[0].records())
    leases = [record.body.decode().split() for record in records]
    assert [record.kind for record in records] == [owner for owner, _ in leases]
    assert len(records) >= 3 * (30 - sum(refused))
    assert verify_chain(records) is None
    assert stores[0].lease().epoch == 30
