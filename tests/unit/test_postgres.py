"""The store on PostgreSQL: what only it has to stand, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from datasov.errors import ConflictError, MissingExtraError, StoreError
from datasov.store import where
from datasov.store.sqlite import SQLiteStore
from tests.postgres import Server, Wire

pytest.importorskip("psycopg")

from datasov.store import session
from datasov.store.postgres import PostgresStore
from datasov.store.where import parse

KEY = b"k" * 32


def new(server: Server, schema: str | None = None, **given: object) -> PostgresStore:
    return PostgresStore(parse(server.url(schema)), create=True, key=KEY, **given)


def again(store: PostgresStore, **given: object) -> PostgresStore:
    return PostgresStore(store.where, key=KEY, **given)


@pytest.fixture
def store(postgres):
    with closing(new(postgres)) as made:
        yield made


@pytest.fixture
def wired(postgres, store):
    """A store, and one that reaches it by a way that can be cut."""
    wire = Wire(postgres.port)
    url = postgres.url(store.where.schema).replace(str(postgres.port), str(wire.port))
    with closing(PostgresStore(parse(url), key=KEY, patience=20)) as far:
        yield wire, far, store
    wire.close()


def fill(store) -> None:
    store.append({"a": (0, [b"1", b"2"]), "b": (0, [])}, {"x": b"blob"})
    store.append({"b": (0, [b"3"]), "a": (2, [])}, {"x": None, "y": b"other", "z": b""})
    store.append({"a": (2, [b"4"])}, {"y": b"newer"})


# --- the chain


def test_the_chain_is_that_of_a_file(store, tmp_path):
    with closing(SQLiteStore(tmp_path / "s.db", create=True, key=KEY)) as file:
        fill(file)
        fill(store)
        assert [store.head(i) for i in range(4)] == [file.head(i) for i in range(4)]
        assert list(store.appends()) == list(file.appends())
        assert list(store.appends(2)) == list(file.appends(2))
        assert (store.streams(""), store.streams("a"), store.blobs()) == (["a", "b"], ["a"], ["y", "z"])
    assert store.head() == store.head(3)
    with pytest.raises(StoreError, match="behind"):
        store.head(4)


def test_what_was_appended_verifies_also_over_many_pages(store):
    for i in range(150):
        store.append({f"s{i % 7}": (i // 7, [bytes([i]) * i])}, {f"b{i % 5}": bytes([i])})
    store.verify()
    with closing(again(store)) as other:
        other.verify()
    with (
        closing(PostgresStore(store.where, key=b"x" * 32)) as other,
        pytest.raises(StoreError, match="without its key"),
    ):
        other.verify()


@pytest.mark.parametrize("change", [
    "UPDATE entries SET body = '9' WHERE stream = 'a' AND seq = 1",
    "UPDATE entries SET stream = 'c' WHERE stream = 'b'",
    r"UPDATE entries SET stream = '\xff' WHERE stream = 'b'",
    "DELETE FROM entries WHERE stream = 'a' AND seq = 2",
    "DELETE FROM entries WHERE stream = 'b'",
    "INSERT INTO entries VALUES ('a', 3, '5')",
    "INSERT INTO entries VALUES ('a', -1, '5')",
    "INSERT INTO entries VALUES ('new', 0, '5')",
    "UPDATE entries SET seq = 9 WHERE stream = 'a' AND seq = 2",
    "UPDATE blobs SET body = '0' WHERE name = 'y'",
    "UPDATE blobs SET name = 'w' WHERE name = 'z'",
    r"UPDATE blobs SET name = '\xff' WHERE name = 'z'",
    "DELETE FROM blobs WHERE name = 'y'",
    "INSERT INTO blobs VALUES ('x', 'blob')",
    r"UPDATE heads SET hash = '\x00' WHERE position = 2",
    "UPDATE heads SET appended = '[[], []]' WHERE position = 2",
    "UPDATE heads SET appended = 'no json' WHERE position = 2",
    r"UPDATE heads SET appended = '\xff' WHERE position = 2",
    "UPDATE heads SET appended = '[[[1]], 3]' WHERE position = 2",
    "UPDATE heads SET appended = '[[[\"a\", 9999999999999999999999, 1]], []]' WHERE position = 2",
    "UPDATE heads SET appended = '[[[\"a\", 1, 9223372036854775807]], []]' WHERE position = 2",
    "DELETE FROM heads WHERE position = 3",
    "DELETE FROM heads WHERE position = 1",
    "UPDATE heads SET position = 7 WHERE position = 3",
    "INSERT INTO heads SELECT -1, hash, appended, writer FROM heads WHERE position = 1",
])  # fmt: skip
def test_whatever_is_changed_without_the_key_is_found(postgres, store, change):
    fill(store)
    store.verify()
    before = postgres.sql(f"SET search_path = {store.where.schema}; SELECT count(*) FROM heads")
    assert before == "3"
    changed = postgres.sql(f"SET search_path = {store.where.schema}; {change} RETURNING 1")
    assert changed == "1"
    with closing(again(store)) as other, pytest.raises(StoreError, match="without its key"):
        other.verify()


# --- a commit whose answer is lost


@pytest.mark.parametrize("how", ["before", "after", "late"])
def test_a_commit_whose_answer_is_lost_is_done_once_and_not_taken_for_lost(wired, how):
    wire, far, near = wired
    near.append({"a": (0, [b"first"])})
    wire.how = how
    far.append({"a": (1, [b"second"])}, {"x": b"blob"})
    assert wire.cuts == 1
    assert near.read("a") == [b"first", b"second"]
    assert near.head() == far.head()
    assert near.head()[0] == 2
    far.append({"a": (2, [b"third"])})
    near.verify()


@pytest.mark.parametrize("bodies", [[b"same"], []])
def test_another_one_s_equal_append_is_not_taken_for_the_own(wired, monkeypatch, bodies):
    """Equal bytes at an equal place give an equal chain: only the number beside them tells whose it is."""
    wire, far, near = wired
    near.append({"a": (0, [b"first"])})

    def other(_: float) -> None:
        if near.head()[0] == 1:
            near.append({"a": (1, bodies)})

    monkeypatch.setattr(session.time, "sleep", other)
    wire.how = "before"
    if bodies:
        with pytest.raises(ConflictError):
            far.append({"a": (1, bodies)})
    else:
        far.append({"a": (1, bodies)})
        assert near.head()[0] == 3, "both are there"
    near.verify()


def test_threads_over_a_way_that_is_cut_again_and_again_lose_nothing(wired):
    wire, far, near = wired

    def write(i: int) -> None:
        for n in range(5):
            if n % 2:
                wire.how = ("before", "after")[i % 2]
            while True:
                try:
                    far.append({"a": (far.length("a"), [bytes([i, n])])})
                    break
                except ConflictError:
                    continue

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wire.cuts >= 4
    assert sorted(near.read("a")) == sorted(bytes([i, n]) for i in range(4) for n in range(5))
    near.verify()


# --- a server that goes away, and comes back


def test_a_server_that_is_gone_is_a_store_error_and_a_store_goes_on_when_it_is_back(postgres, store):
    store.append({"a": (0, [b"1"])})
    with closing(again(store, patience=0.3)) as hasty:
        postgres.stop("immediate")
        try:
            for use in (lambda: hasty.read("a"), lambda: hasty.append({"a": (1, [b"2"])}), hasty.head, hasty.verify):
                with pytest.raises(StoreError, match="see that it runs"):
                    use()
            with pytest.raises(StoreError, match="see that it runs"):
                again(store)
        finally:
            postgres.start()
        assert hasty.read("a") == [b"1"]
        hasty.append({"a": (1, [b"2"])})
    assert store.read("a") == [b"1", b"2"], "one that was idle notices nothing"


def test_a_store_waits_for_a_server_that_restarts(postgres, store):
    store.append({"a": (0, [b"1"])})
    postgres.kill()
    thread = threading.Thread(target=postgres.start)
    thread.start()
    try:
        store.append({"a": (1, [b"2"])})
        assert store.read("a") == [b"1", b"2"]
    finally:
        thread.join()


def test_a_session_that_the_server_ends_is_replaced(postgres, store):
    store.append({"a": (0, [b"1"])})
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datasov'")
    store.append({"a": (1, [b"2"])})
    assert store.length("a") == 2


@pytest.mark.parametrize("reconnect", [False, True])
def test_a_server_that_lost_what_it_confirmed_is_refused(postgres, store, reconnect):
    fill(store)
    schema = store.where.schema
    postgres.sql(
        f"SET search_path = {schema}; DELETE FROM heads WHERE position = 3; "
        "DELETE FROM entries WHERE stream = 'a' AND seq = 2"
    )
    if reconnect:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datasov'")
    reading = [lambda: store.read("a")] if reconnect else []
    for use in (*reading, store.head, lambda: store.append({"a": (2, [b"again"])})):
        with pytest.raises(StoreError, match="lost what it had confirmed"):
            use()
    with closing(again(store)) as other:
        other.append({"a": (2, [b"another history"])})
    for use in (store.head, lambda: store.append({"a": (3, [b"again"])})):
        with pytest.raises(StoreError, match="lost what it had confirmed"):
            use()


# --- what a server or a role is set to


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_a_commit_is_flushed_whatever_the_default_is(postgres, default, used):
    schema = f"sync_{default}"
    postgres.sql(f"ALTER DATABASE postgres SET synchronous_commit = {default}")
    try:
        with closing(new(postgres, schema)) as store:
            postgres.sql(
                f"SET search_path = {schema}; CREATE TABLE noted (setting text);"
                f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO {schema}.noted "
                "VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;"
                "CREATE TRIGGER note AFTER INSERT ON heads EXECUTE FUNCTION note()"
            )
            store.append({"a": (0, [b"1"])})
        assert postgres.sql(f"SELECT setting FROM {schema}.noted") == used
    finally:
        postgres.sql("ALTER DATABASE postgres RESET synchronous_commit")


def test_defaults_for_transactions_change_nothing(postgres):
    postgres.sql("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'")
    postgres.sql("ALTER DATABASE postgres SET default_transaction_read_only = on")
    try:
        with closing(new(postgres)) as store, closing(again(store)) as other:
            faults = list[Exception]()

            def write(one: PostgresStore) -> None:
                done = 0
                while done < 10 and not faults:
                    try:
                        one.append({"a": (one.length("a"), [b"1"])})
                        done += 1
                    except ConflictError:
                        continue
                    except StoreError as fault:
                        faults.append(fault)

            threads = [threading.Thread(target=write, args=(one,)) for one in (store, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert faults == []
            other.verify()
            store.wipe()
            assert store.length("a") == 20
    finally:
        for name in ("isolation", "read_only"):
            postgres.sql(f"SET transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_{name}")


def test_a_server_that_does_not_flush_is_refused(postgres, store):
    postgres.sql("ALTER SYSTEM SET fsync = off")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        for _ in range(100):
            if postgres.sql("SHOW fsync") == "off":
                break
        with pytest.raises(StoreError, match="fsync"):
            again(store)
    finally:
        postgres.sql("ALTER SYSTEM RESET fsync")
        postgres.sql("SELECT pg_reload_conf()")


def test_a_role_needs_a_schema_of_its_own_and_nothing_else(postgres):
    postgres.sql("CREATE ROLE plain LOGIN")
    place = parse(postgres.url("plain_city", user="plain"))
    with pytest.raises(StoreError, match="AUTHORIZATION"):
        PostgresStore(place, create=True, key=KEY)
    postgres.sql("CREATE SCHEMA plain_city AUTHORIZATION plain")
    with closing(PostgresStore(place, create=True, key=KEY)) as store:
        fill(store)
        store.verify()
        store.wipe()
    postgres.sql("CREATE ROLE stranger LOGIN")
    with pytest.raises(StoreError, match="may not use"):
        PostgresStore(parse(postgres.url("plain_city", user="stranger")), key=KEY)


# --- which store it is


def test_a_place_that_holds_something_is_not_written_to(postgres, store):
    fill(store)
    with pytest.raises(StoreError, match="holds a city already"):
        PostgresStore(store.where, create=True, key=KEY)
    store.verify()
    postgres.sql("CREATE SCHEMA other; CREATE TABLE other.entries (x int)")
    with pytest.raises(StoreError, match="holds a city already"):
        PostgresStore(parse(postgres.url("other")), create=True, key=KEY)
    with pytest.raises(StoreError, match="no city's store"):
        PostgresStore(parse(postgres.url("other")), key=KEY)
    with pytest.raises(StoreError, match="no city's store"):
        PostgresStore(parse(postgres.url("none")), key=KEY)


def test_a_founding_that_was_cut_off_is_begun_anew_under_the_same_key_alone(postgres):
    with closing(new(postgres, "cut")) as store:
        store.append({"city": (0, [b"half"])})
        first = store.identity
    with pytest.raises(StoreError, match="holds a city already"):
        PostgresStore(parse(postgres.url("cut")), create=True, key=b"x" * 32)
    with closing(new(postgres, "cut")) as store:
        assert store.read("city") == []
        assert store.identity != first
        for i in range(3):
            store.append({"a": (i, [b"1"])})
    with pytest.raises(StoreError, match="holds a city already"):
        new(postgres, "cut")


def test_another_store_than_the_one_that_is_meant_is_refused(postgres, store):
    with closing(new(postgres)) as other:
        with pytest.raises(StoreError, match="another city's store"):
            PostgresStore(store.where, key=KEY, identity=other.identity)
        PostgresStore(store.where, key=KEY, identity=store.identity).close()


def test_a_store_of_another_version_is_refused(postgres, store):
    postgres.sql(f"UPDATE {store.where.schema}.store SET version = 2")
    with pytest.raises(StoreError, match="another version"):
        again(store)


def test_a_closed_store_is_a_store_error(store):
    store.close()
    for use in (lambda: store.read("a"), lambda: store.append({}), lambda: store.length("a"), store.head, store.verify):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_a_failed_append_leaves_the_store_usable(store):
    store.append({"a": (0, [b"1"])})
    head = store.head()
    with pytest.raises(TypeError):
        store.append({"a": (1, [b"2"]), "b": (0, [object()])}, {"c": b"3"})
    with pytest.raises(ConflictError):
        store.append({"a": (1, [b"2"]), "b": (7, [b"3"])}, {"c": b"3"})
    assert store.head() == head
    store.append({"a": (1, [b"2"])})
    assert store.read("a") == [b"1", b"2"]


def test_a_function_of_somebody_else_s_is_never_run(postgres, store):
    """CVE-2018-1058: one in `public` whose arguments fit better, and a path on which another schema comes first."""
    fill(store)
    shadows = (
        "CREATE FUNCTION public.unnest(bytea[]) RETURNS SETOF bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'run'; END $$",
        "CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
        "CREATE FUNCTION evil.max(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'run'; END $$",
        "ALTER ROLE CURRENT_USER SET search_path = evil, pg_catalog, public",
    )
    postgres.sql("CREATE SCHEMA evil")
    try:
        for statement in shadows:
            postgres.sql(statement)
        with closing(again(store)) as other:
            other.append({"a": (3, [b"5"])}, {"y": None})
            other.verify()
            assert other.length("a") == 4
            used = other._session.run(lambda db: db.execute("SHOW search_path").fetchone())
            assert used == ("pg_catalog, pg_temp",)
    finally:
        postgres.sql("ALTER ROLE CURRENT_USER RESET search_path")
        postgres.sql("DROP SCHEMA evil CASCADE")
        postgres.sql("DROP FUNCTION public.unnest(bytea[])")


def test_any_schema_is_only_a_name(postgres):
    for name in ("x%22; DROP SCHEMA public; --", "%E6%B9%96", "a%20b", "%7Bat%7D"):
        url = f"postgresql://owner@127.0.0.1:{postgres.port}/postgres?schema={name}"
        with closing(PostgresStore(parse(url), create=True, key=KEY)) as store:
            fill(store)
            store.verify()
    assert postgres.sql("SELECT count(*) FROM pg_namespace WHERE nspname IN ('public', '湖', 'a b', '{at}')") == "4"


# --- copies, and another store in its place


def test_a_copy_is_a_file_with_the_same_chain_and_can_be_loaded_again(postgres, store, tmp_path):
    fill(store)
    store.append({"スイカ\n\x00": (0, [bytes(range(256)) * 100])}, {"\x00": b"\x00"})
    store.copy(tmp_path / "copy.db")
    with closing(SQLiteStore(tmp_path / "copy.db", key=KEY)) as file:
        file.verify()
        assert [file.head(i) for i in range(5)] == [store.head(i) for i in range(5)]
    with closing(new(postgres)) as other:
        other.load(tmp_path / "copy.db")
        other.verify()
        assert other.head() == store.head()
        other.append({"a": (3, [b"5"])})
        other.verify()


def test_an_exchange_that_is_given_up_leaves_everything(store, tmp_path):
    fill(store)
    head = store.head()
    with closing(again(store)) as other:
        with pytest.raises(RuntimeError), other.exchange(tmp_path / "held.db"):
            raise RuntimeError
        other.verify()
        assert other.head() == head
    store.append({"a": (3, [b"5"])})


def test_who_has_an_exchanged_store_open_is_told_to_open_it_again(postgres, store, tmp_path):
    fill(store)
    waiting, results = again(store), list[object]()

    def append() -> None:
        try:
            waiting.append({"a": (3, [b"5"])})
        except StoreError as why:
            results.append(str(why))

    thread = threading.Thread(target=append)
    with closing(again(store)) as other, other.exchange(tmp_path / "held.db") as put:
        thread.start()
        with closing(SQLiteStore(tmp_path / "held.db", key=KEY)) as held:
            held.append({"a": (3, [b"from the other"])})
        thread.join(0.2)
        assert thread.is_alive(), "appends wait while the store is held"
        put(tmp_path / "held.db")
    thread.join()
    assert len(results) == 1
    assert "open it again" in str(results[0])
    for use in (store.head, lambda: store.append({"a": (4, [b"x"])})):
        with pytest.raises(StoreError, match="open it again"):
            use()
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datasov'")
    with pytest.raises(StoreError, match="open it again"):
        store.read("a")
    with closing(again(store)) as fresh:
        fresh.verify()
        assert fresh.read("a", 3) == [b"from the other"]
    waiting.close()


def test_a_deleted_blob_is_not_in_the_table_s_files_after_a_wipe(postgres, store):
    secret = b"the rows of somebody who revoked"

    def found() -> bool:
        postgres.sql("CHECKPOINT")
        base = postgres.data / "base"
        return any(secret in p.read_bytes() for p in base.glob("*/*") if p.is_file())

    store.append({}, {"pool/1": secret * 300, "pool/2": b"kept" * 1000})
    store.append({}, {"pool/1": None})
    assert found(), "deleting alone leaves the bytes"
    store.wipe()
    assert not found()
    assert store.blob("pool/2") == b"kept" * 1000
    store.verify()


# --- where a store is


def test_a_place_is_read_and_remembered_without_its_password(tmp_path):
    found = parse(
        "postgresql://ann:hunter2@db.example,other.example:5433/lake?schema=town&sslmode=verify-full&password=x"
    )
    assert found.schema == "town"
    assert dict(found.connection) == {
        "user": "ann", "host": "db.example,other.example", "port": ",5433", "dbname": "lake", "sslmode": "verify-full",
    }  # fmt: skip
    assert dict(found.secret) == {"password": "x"}
    said = where.write(found, bytes(16))
    assert b"hunter2" not in said
    assert "hunter2" not in repr(found) + str(found)
    (tmp_path / "store.json").write_bytes(said)
    place, identity = where.read(tmp_path / "store.json")
    assert (dict(place.connection), place.schema, identity) == (dict(found.connection), "town", bytes(16))
    assert parse("postgres:///x?host=/run/postgresql", "lake").schema == "lake"
    assert where.called_after(Path("Lake Side.city")) == "lake_side"
    assert where.called_after(Path("前橋.city")) == ""


@pytest.mark.parametrize("url", [
    "", "lake.db", "mysql://x/y", "postgresql://h/d", "postgresql://h/d?schema=", "postgresql://h/d?schema=a&schema=b",
    "postgresql://h/d?schema=pg_x", "postgresql://h/d?schema=%25s", "postgresql://h/d?schema=a&nothing=1",
    "postgresql://h/d?schema=" + "x" * 64, "postgresql://h/d?schema=a%0Ab", b"postgresql://h/d?schema=a",
])  # fmt: skip
def test_what_names_no_place_is_refused(url):
    with pytest.raises(StoreError):
        parse(url)


def test_a_damaged_note_of_the_place_is_refused(tmp_path):
    for text in ("", "[]", "{}", '{"connection": 1, "schema": "a", "store": "00"}', json.dumps({"connection": {}})):
        (tmp_path / "store.json").write_text(text)
        with pytest.raises(StoreError, match="where the city's database is"):
            where.read(tmp_path / "store.json")


def test_without_psycopg_the_extra_is_named_and_nothing_else_needs_it(tmp_path):
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import datasov as ds\n"
        "ds.City.open(sys.argv[1] + '/a.city', budget=ds.zcdp(rho=1), purposes=['p']).close()\n"
        "try: ds.City.open(sys.argv[1] + '/b.city', budget=ds.zcdp(rho=1), purposes=['p'], store='postgresql://h/d')\n"
        "except ds.MissingExtraError as why: print(why)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert "datasov[postgres]" in done.stdout, done.stderr
    assert issubclass(MissingExtraError, Exception)
    assert not (tmp_path / "b.city").exists()
