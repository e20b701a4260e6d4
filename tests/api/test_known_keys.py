"""Keys that were looked up just now: kept for a second, forgotten when a key is revoked."""

from promptreel.api.web.auth import KnownKeys, Principal

ANNE = Principal("user_a", "key_a", ("read",))


def keys_at(moment):
    return KnownKeys(clock=lambda: moment[0])


def test_a_key_is_known_for_a_second():
    moment = [100.0]
    keys = keys_at(moment)
    assert keys.find("hash") is None
    keys.store("hash", ANNE, keys.generation)
    moment[0] = 100.9
    assert keys.find("hash") == ANNE
    assert keys.find("other") is None
    moment[0] = 101.1
    assert keys.find("hash") is None


def test_all_are_forgotten_at_once():
    keys = keys_at([100.0])
    keys.store("hash", ANNE, keys.generation)
    keys.clear()
    assert keys.find("hash") is None


def test_what_was_looked_up_before_a_key_was_revoked_is_not_kept_after_it():
    keys = keys_at([100.0])
    generation = keys.generation  # a request reads the key,
    keys.clear()  # another revokes it,
    keys.store("hash", ANNE, generation)  # and the first comes back with what it has read
    assert keys.find("hash") is None


def test_strangers_do_not_fill_the_memory():
    keys = keys_at([100.0])
    for number in range(25_000):
        keys.store(f"hash {number}", ANNE, keys.generation)
    assert len(keys._callers) <= 10_000
    assert keys.find("hash 24999") == ANNE
