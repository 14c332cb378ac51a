"""Two devices of one resident: enrolled, parted, merged, and what cannot be merged."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

import datasov as ds
from datasov.authority import held
from datasov.errors import ConsentError, DecryptionError, InvalidDataError, ProofError, StoreError
from datasov.model.privacy import Loss
from datasov.model.schema import DOMAINS
from datasov.portability import notes
from datasov.vault import KeyFile, Vault, files, layout, manifest
from datasov.vault import keys as vault_keys
from tests import vaults
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, found_city
from tests.vaults import KEY, METER, PERSON, meter, person, trips

HOME, PHONE = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def home(tmp_path, clock):
    with ds.Resident.create(tmp_path / "home", device_key=HOME, clock=clock) as resident:
        resident.put(TRIPS, [{"district": "N", "km": 1}])
        yield resident


@pytest.fixture
def phone(home, tmp_path, clock):
    home.enrol(tmp_path / "phone", device_key=PHONE)
    with ds.Resident.open(tmp_path / "phone", device_key=PHONE, clock=clock) as resident:
        yield resident


def km(resident):
    return resident.scan(TRIPS, ["km"])["km"].to_list()


def put(resident, *kms):
    resident.put(TRIPS, [{"district": "N", "km": k} for k in kms])


def both(home, phone, tmp_path):
    """Each takes in the other."""
    phone.close()
    home.merge(tmp_path / "phone", device_key=PHONE)
    home.close()
    phone._vault = ds.Resident.open(tmp_path / "phone", device_key=PHONE)._vault
    phone.merge(tmp_path / "home", device_key=HOME)
    home._vault = ds.Resident.open(tmp_path / "home", device_key=HOME)._vault


def test_an_enrolled_device_has_the_rows_its_own_key_and_its_own_name(home, phone, tmp_path):
    assert km(phone) == [1]
    mine, theirs = home._vault._secrets, phone._vault._secrets
    assert mine.device_id != theirs.device_id
    assert mine.device_seed != theirs.device_seed
    assert set(theirs.devices) == {theirs.device_id}, "no other device signs there"
    assert set(mine.vault_keys.values()).isdisjoint(theirs.vault_keys.values())
    newest = [{d.key for d in map(s.domain, DOMAINS)} for s in (mine, theirs)]
    assert newest[0].isdisjoint(newest[1]), "who had the keys of one does not read what the other writes"
    assert phone._vault.derive(b"x") == home._vault.derive(b"x"), "one resident"
    phone.close()
    with pytest.raises(DecryptionError):
        ds.Resident.open(tmp_path / "phone", device_key=HOME)
    with pytest.raises(StoreError, match="exists already"):
        home.enrol(tmp_path / "phone", device_key=PHONE)
    with pytest.raises(InvalidDataError, match="passphrase"):
        home.enrol(tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_what_each_put_is_united_and_each_ones_order_is_kept(home, phone, tmp_path):
    put(home, 2, 3)
    put(phone, 4)
    put(home, 2)
    put(phone, 4, 5)
    both(home, phone, tmp_path)
    assert km(home) == km(phone) == [1, 2, 3, 2, 4, 4, 5], "equal values are rows of their own"
    put(phone, 6)
    put(home, 7)
    home.compact()
    both(home, phone, tmp_path)
    assert km(home) == km(phone) == [1, 2, 3, 2, 7, 4, 4, 5, 6]


def test_merging_again_and_again_keeps_the_order_of_each_devices_puts(tmp_path):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            for turn in range(4):
                b.put([(TRIPS, trips(2 * turn))])
                b.put([(TRIPS, trips(2 * turn + 1))])
                if turn % 2:
                    b.compact()
                assert a.merge(b, notes.combined)
                assert a.scan("trips").equals(trips(*range(2 * turn + 2)))
        a.compact()
        assert a.scan("trips").equals(trips(*range(8)))


def test_the_attribute_row_put_last_stands(tmp_path):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b.put([(PERSON, person(1))])
            for age in range(2, 12):
                a.put([(PERSON, person(age))])
            b.put([(PERSON, person(50))])
            assert a.merge(b, notes.combined)
            assert a.scan("person").equals(person(50))
            assert not b.merge(a, notes.combined)
            a.put([(PERSON, person(51))])
            assert not a.merge(b, notes.combined)
            assert b.merge(a, notes.combined)
            for vault in (a, b):
                vault.compact()
                assert vault.scan("person").equals(person(51))


def test_of_two_rows_put_in_one_microsecond_both_devices_take_the_same(tmp_path, monkeypatch):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            monkeypatch.setattr("datasov.vault.session.time.time_ns", lambda: 2 * 10**18)
            a.put([(PERSON, person(1))])
            b.put([(PERSON, person(2))])
            a.merge(b, notes.combined)
            b.merge(a, notes.combined)
            assert a.scan("person").equals(b.scan("person"))


def test_a_clock_that_goes_back_does_not_bring_back_an_old_row(tmp_path, monkeypatch):
    times = iter(range(10**18, 0, -(10**12)))
    monkeypatch.setattr("datasov.vault.session.time.time_ns", lambda: next(times))
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        for turn in range(6):
            with vaults.large_from(0 if turn % 3 == 2 else 99):
                a.put([(PERSON, person(turn)), (TRIPS, trips(turn))])
            if turn % 2:
                a.compact()
            assert a.scan("person").equals(person(turn))
            assert a.scan("trips").equals(trips(*range(turn + 1)))


def test_a_device_whose_clock_is_ahead_does_not_stop_the_other(tmp_path, monkeypatch):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            with monkeypatch.context() as ahead:
                ahead.setattr("datasov.vault.session.time.time_ns", lambda: 4 * 10**18)
                b.put([(PERSON, person(1))])
            a.merge(b, notes.combined)
            a.put([(PERSON, person(2))])
            assert a.scan("person").equals(person(2))
            assert b.merge(a, notes.combined)
            assert b.scan("person").equals(person(2))


def test_only_another_device_of_the_same_resident_is_merged(home, phone, tmp_path):
    with Vault.create(tmp_path / "other", device_key=KEY) as other:
        for wrong in (other, None):
            with pytest.raises(InvalidDataError, match="same resident"):
                home._vault.merge(wrong, notes.combined)
    home.close()
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    home._vault = ds.Resident.open(tmp_path / "home", device_key=HOME)._vault
    with pytest.raises(InvalidDataError, match="of one device"):
        home.merge(tmp_path / "copy", device_key=HOME)
    with pytest.raises(StoreError, match="another process or another Vault"):
        home.merge(tmp_path / "phone", device_key=PHONE)
    phone.close()
    reader = Vault.open(tmp_path / "phone", device_key=PHONE, write=False)
    with reader, pytest.raises(StoreError, match="open for reading"):
        home._vault.merge(reader, notes.combined)


def test_a_vault_put_back_while_it_went_on_is_noticed(home, phone, tmp_path):
    """Rows at one place of one device that differ: nothing is taken, from either side, rather than some row lost."""
    put(phone, 2)
    phone.close()
    shutil.copytree(tmp_path / "phone", tmp_path / "old")
    with ds.Resident.open(tmp_path / "phone", device_key=PHONE) as again:
        put(again, 3)
    home.merge(tmp_path / "phone", device_key=PHONE)
    shutil.rmtree(tmp_path / "phone")
    shutil.copytree(tmp_path / "old", tmp_path / "phone")
    assert not home.merge(tmp_path / "phone", device_key=PHONE), "older, and no harm in that"
    with ds.Resident.open(tmp_path / "phone", device_key=PHONE) as again:
        put(again, 4)
        with pytest.raises(StoreError, match="different rows of one device"):
            again._vault.merge(home._vault, notes.combined)
        assert km(again) == [1, 2, 4]
    with pytest.raises(StoreError, match="different rows of one device"):
        home.merge(tmp_path / "phone", device_key=PHONE)
    assert km(home) == [1, 2, 3]


def test_a_vault_put_back_takes_its_lost_rows_from_the_other_device(home, phone, tmp_path):
    phone.close()
    shutil.copytree(tmp_path / "phone", tmp_path / "old")
    with ds.Resident.open(tmp_path / "phone", device_key=PHONE) as again:
        put(again, 2, 3)
    home.merge(tmp_path / "phone", device_key=PHONE)
    home.close()
    with ds.Resident.open(tmp_path / "old", device_key=PHONE) as restored:
        restored.merge(tmp_path / "home", device_key=HOME)
        put(restored, 4)
        assert km(restored) == [1, 2, 3, 4]
    home._vault = ds.Resident.open(tmp_path / "home", device_key=HOME)._vault
    home.merge(tmp_path / "old", device_key=PHONE)
    assert km(home) == [1, 2, 3, 4]


def test_an_erased_domain_does_not_come_back_and_changed_keys_do_not_matter(tmp_path):
    new = [bytes([n]) * 32 for n in range(6)]
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1)), (METER, meter(1))])
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b.put([(TRIPS, trips(2)), (METER, meter(2))])
            a.keys.rotate(device_key=new[0])
            a.put([(TRIPS, trips(3))])
            a.erase_domain("energy", device_key=new[1])
            for key in new[2:4]:
                with pytest.raises(StoreError, match=r"'energy' was erased"):
                    a.merge(b, notes.combined)
                assert a.scan("trips").equals(trips(1, 3))
                assert set(a.tables()) == {"trips"}
                b.keys.rotate(device_key=key)
            b.erase_domain("energy", device_key=new[4])
            b.put([(METER, meter(4))])
            assert a.merge(b, notes.combined)
            assert b.merge(a, notes.combined)
            for vault in (a, b):
                assert vault.scan("trips").equals(trips(1, 2, 3)), "new keys, new device id"
                assert vault.scan("meter").equals(meter(4)), "put since both erased it"
                assert all(c.fault is None for c in vault.check())
            a.erase_domain("energy", device_key=new[5])
            with pytest.raises(StoreError, match=r"'energy' was erased"):
                a.merge(b, notes.combined)
            assert b.scan("meter").equals(meter(4))


def test_an_erased_table_without_rows_does_not_come_back_either(tmp_path):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(METER, meter())])
        a.enrol(tmp_path / "b", device_key=KEY)
        a.erase_domain("energy", device_key=bytes(32))
        with Vault.open(tmp_path / "b", device_key=KEY) as b, pytest.raises(StoreError, match=r"'energy' was erased"):
            a.merge(b, notes.combined)
        assert not a.tables()


def test_a_removed_slot_does_not_come_back_by_a_merge_and_each_device_signs_for_itself(tmp_path):
    lost = bytes(range(7, 39))
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.keys.add_device_key(lost, label="lost")
        a.put([(TRIPS, trips(1))])
        a.enrol(tmp_path / "b", device_key=PHONE)
        with Vault.open(tmp_path / "b", device_key=PHONE) as b:
            assert len(b.keys.slots()) == 1, "the ways of opening are each vault's own"
            b.put([(TRIPS, trips(2))])
            shut_out, signed = a._secrets, a._session.manifest
            a.keys.remove(*(slot.id for slot in a.keys.slots() if slot.label == "lost"))
            assert a.merge(b, notes.combined)
            assert b.merge(a, notes.combined) is False
            assert {slot.kind for slot in a.keys.slots()} == {"device key"}
            assert set(a._secrets.devices) == {a._secrets.device_id}
            forged = replace(signed, counter=b._session.manifest.counter + 1, previous=b._session.manifest.digest)
    for name in ("a", "b"):
        with pytest.raises(DecryptionError):
            Vault.open(tmp_path / name, device_key=lost)
    manifest.commit(tmp_path / "b", shut_out, forged)
    with pytest.raises(DecryptionError):
        Vault.open(tmp_path / "b", device_key=PHONE)


def test_an_anchor_shows_a_vault_put_back_after_merges(tmp_path):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1))])
        a.anchor("friend")
        a.enrol(tmp_path / "b", device_key=PHONE)
    shutil.copytree(tmp_path / "a", tmp_path / "old")
    with Vault.open(tmp_path / "a", device_key=KEY) as a, Vault.open(tmp_path / "b", device_key=PHONE) as b:
        assert not b._session.manifest.anchors, "anchors are each vault's own"
        b.put([(TRIPS, trips(2))])
        left = a.anchor("friend")
        assert a.merge(b, notes.combined)
        after = a.anchor("friend")
        theirs = b.anchor("friend")
    Vault.open(tmp_path / "a", device_key=KEY, anchor=[left, after]).close()
    with pytest.raises(StoreError, match="older than it was"):
        Vault.open(tmp_path / "old", device_key=KEY, anchor=after)
    with Vault.open(tmp_path / "old", device_key=KEY) as old, Vault.open(tmp_path / "b", device_key=PHONE) as b:
        old.merge(b, notes.combined)
        for number in range(9):
            old.set_state({"n": bytes([number])})
    with pytest.raises(StoreError, match="another branch"):
        Vault.open(tmp_path / "old", device_key=KEY, anchor=after)
    with pytest.raises(StoreError, match=r"another branch|older than"):
        Vault.open(tmp_path / "a", device_key=KEY, anchor=theirs)
    with ds.Resident.open(tmp_path / "a", device_key=KEY) as home, pytest.raises(StoreError, match="older than it was"):
        home.merge(tmp_path / "b", device_key=PHONE, anchor=after)


def test_a_vault_made_up_under_the_same_id_is_not_merged(tmp_path):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        opening = vault_keys.access(device_key=PHONE)
        header, made_up = vault_keys._slotted(replace(vault_keys.create(opening)[1], vault_id=a.id), opening)
        layout.create(tmp_path / "b", header, made_up, manifest.Manifest(1))[1].release()
        with Vault.open(tmp_path / "b", device_key=PHONE) as b:
            assert b.id == a.id
            with pytest.raises(InvalidDataError, match="same resident"):
                a.merge(b, notes.combined)


def test_a_device_that_keeps_the_key_of_one_copy_does_not_lose_it_for_another(tmp_path):
    store = KeyFile(tmp_path / "keys")
    with Vault.create(tmp_path / "a", device=store) as a:
        a.enrol(tmp_path / "b", device_key=PHONE)
    with Vault.open(tmp_path / "b", device_key=PHONE) as b:
        with pytest.raises(StoreError, match="another copy of this vault"):
            b.keys.enrol(store)
        b.keys.enrol(KeyFile(tmp_path / "others"))
    Vault.open(tmp_path / "a", device=store).close()
    Vault.open(tmp_path / "b", device=KeyFile(tmp_path / "others")).close()


def test_numbers_of_contributions_go_on_above_both():
    name = held.NUMBER + "00"
    for mine, theirs in ((3, 9), (9, 3)):
        both_of = [{name: n.to_bytes(8, "big")} for n in (mine, theirs)]
        assert notes.combined(*both_of) == {name: (9).to_bytes(8, "big")}
    assert notes.combined({}, {name: bytes(8)}) == {name: bytes(8)}


def test_a_merge_that_fails_changes_nothing(tmp_path, monkeypatch):
    with Vault.create(tmp_path / "a", device_key=KEY) as a:
        a.put([(TRIPS, trips(1))])
        a.enrol(tmp_path / "b", device_key=KEY)
        with Vault.open(tmp_path / "b", device_key=KEY) as b:
            b.put([(TRIPS, trips(2)), (METER, meter(1))])
            real = files.create
            for fails in (1, 2, 3):
                calls = iter(range(1, 99))

                def full(path, data, fails=fails, calls=calls):
                    if next(calls) == fails:
                        raise OSError(28, "No space left on device")
                    real(path, data)

                monkeypatch.setattr(files, "create", full)
                with pytest.raises(StoreError, match="not merged: No space left"):
                    a.merge(b, notes.combined)
                assert a.scan("trips").equals(trips(1))
                assert len(os.listdir(tmp_path / "a" / "seg")) == 1
            monkeypatch.setattr(files, "create", real)
            assert a.merge(b, notes.combined)
            assert a.scan("trips").equals(trips(1, 2))
    assert vaults.contents(tmp_path / "a")["meter"] == meter(1).rows()


def schema(**more):
    return ds.Schema("t", domain="mobility", columns={"n": ds.Integer(0, 9), **more})


def test_the_schema_that_follows_the_other_stands(tmp_path, clock):
    b, x, y = ({k: ds.Boolean(nullable=True)} for k in "bxy")
    with ds.Resident.create(tmp_path / "a", device_key=KEY, clock=clock) as one:
        one.put(schema(), [{"n": 1}])
        one.enrol(tmp_path / "b", device_key=KEY)
        one.evolve(schema(**b))
        one.put(schema(**b), [{"n": 2, "b": True}])
        with ds.Resident.open(tmp_path / "b", device_key=KEY, clock=clock) as two:
            two.put(schema(), [{"n": 3}])
            two._vault.merge(one._vault, notes.combined)
            assert two.scan(schema(**b)).rows() == [(1, None), (2, True), (3, None)]
            two.evolve(schema(**b, **x))
            two.put(schema(**b, **x), [{"n": 4, "b": False, "x": True}])
            one.evolve(schema(**b, **y))
            for mine, theirs in ((one, two), (two, one)):
                with pytest.raises(InvalidDataError, match="another schema on each device"):
                    mine._vault.merge(theirs._vault, notes.combined)
            one.evolve(schema(**b, **y, **x))
            one._vault.merge(two._vault, notes.combined)
            two._vault.merge(one._vault, notes.combined)
            expected = [(1, None, None, None), (2, True, None, None), (3, None, None, None), (4, False, None, True)]
            for resident in (one, two):
                assert resident.scan(schema(**b, **y, **x)).rows() == expected
                resident.compact()
                assert resident.scan(schema(**b, **y, **x)).rows() == expected


def test_values_filled_in_differently_are_not_mixed(tmp_path, clock):
    with ds.Resident.create(tmp_path / "a", device_key=KEY, clock=clock) as one:
        one.put(schema(), [{"n": 1}])
        one.enrol(tmp_path / "b", device_key=KEY)
        with ds.Resident.open(tmp_path / "b", device_key=KEY, clock=clock) as two:
            for resident, value in ((one, True), (two, False)):
                resident.evolve(schema(b=ds.Boolean()), fill={"b": value})
            with pytest.raises(InvalidDataError, match="another value"):
                one._vault.merge(two._vault, notes.combined)


def test_accounts_merge_to_the_safe_side(home, phone, tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        first = home.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
        phone.lifetime = Loss(2 * RHO.nano)
        second = phone.grant(city.id, TRIPS, purpose="other", loss=RHO, until="2030-01-01")
        third = phone.grant(city.id, TRIPS, purpose="third", loss=RHO, until="2030-01-01")
        home.revoke(home.grant(city.id, TRIPS, purpose=PURPOSE, loss=Loss(1), until="2030-01-01"))
        sent = [home.contribute(first), phone.contribute(second)]
        both(home, phone, tmp_path)
        for resident in (home, phone):
            resident._clock = clock
            assert {c.digest for c in resident.consents} == {first.digest, second.digest, third.digest}
            assert resident.granted == Loss(3 * RHO.nano), "more than the limit: each granted without the other"
            assert resident.lifetime == Loss(2 * RHO.nano)
            with pytest.raises(ConsentError, match="lifetime"):
                resident.grant(city.id, TRIPS, purpose="fourth", loss=Loss(1), until="2030-01-01")
        assert home._vault.states() == phone._vault.states()
        city.admit(first, sent[0])
        city.admit(first, phone.contribute(first))
        with pytest.raises(ConsentError):
            city.admit(first, sent[0])
        home.revoke(second)
        both(home, phone, tmp_path)
        with pytest.raises(ConsentError, match="revoked"):
            phone.contribute(second)
        note = held.sequence_note(first)
        before = int.from_bytes(phone._vault.state(note), "big")
        home._clock, clock.now = clock, 0
        home.contribute(first)
        assert int.from_bytes(home._vault.state(note), "big") > before


def test_the_larger_checkpoint_is_kept_and_two_trees_of_one_size_are_noticed(home, phone, tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        home.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        home.receipts(city.log)
        both(home, phone, tmp_path)
        (name,) = (n for n in phone._vault.states() if n.startswith("log/"))
        old = phone._vault.state(name)
        city.release(COUNT.bound(rows=9), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        phone._clock = clock
        phone.receipts(city.log)
        new = phone._vault.state(name)
        assert new != old
        both(home, phone, tmp_path)
        assert home._vault.state(name) == phone._vault.state(name) == new
        lines = new.split(b"\n")
        lines[2] = old.split(b"\n")[2]
        with pytest.raises(ProofError, match="another tree"):
            notes.combined({name: new}, {name: b"\n".join(lines)})


def test_sequences_of_contributions_go_on_above_both():
    for mine, theirs in ((3, 9), (9, 3)):
        both_of = [{held.SEQUENCE + "a": n.to_bytes(8, "big")} for n in (mine, theirs)]
        assert notes.combined(*both_of) == {held.SEQUENCE + "a": (9).to_bytes(8, "big")}
    assert set(notes.combined({held.SEQUENCE + "a": b"1"}, {held.SEQUENCE + "b": b"2"})) == {"sequence/a", "sequence/b"}


def test_a_device_that_did_not_merge_is_a_replay_on_that_day_alone(home, phone, tmp_path, clock):
    """What a city is told of the time is the day: two devices that part can use one number twice on it."""
    home._clock = phone._clock = clock
    with found_city(tmp_path, clock) as city:
        consent = home.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
        both(home, phone, tmp_path)
        home._clock = phone._clock = clock
        city.admit(consent, home.contribute(consent))
        with pytest.raises(ConsentError, match="contribute again"):
            city.admit(consent, phone.contribute(consent))
        city.admit(consent, phone.contribute(consent))
        city.admit(consent, home.contribute(consent) and home.contribute(consent))
        clock.now += 86_400
        city.admit(consent, phone.contribute(consent))


def test_notes_that_nobody_knows_stay_on_their_device():
    assert notes.combined({"a": b"1", "b": b"2"}, {"a": b"3", "c": b"4"}) == {"a": b"1", "b": b"2"}
