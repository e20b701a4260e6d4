"""The cache of known keys: entries live for a second, and are dropped when a key is revoked."""

from promptreel.api.web.auth import KnownKeys, Principal

ANNE = Principal("user_a", "key_a", ("read",))


def keys_at(time_s):
    return KnownKeys(clock=lambda: time_s[0])


def test_a_key_is_cached_for_a_second():
    time_s = [100.0]
    keys = keys_at(time_s)
    assert keys.find("hash") is None
    keys.store("hash", ANNE, keys.generation)
    time_s[0] = 100.9
    assert keys.find("hash") == ANNE
    assert keys.find("other") is None
    time_s[0] = 101.1
    assert keys.find("hash") is None


def test_clear_drops_all_keys():
    keys = keys_at([100.0])
    keys.store("hash", ANNE, keys.generation)
    keys.clear()
    assert keys.find("hash") is None


def test_a_lookup_before_a_revocation_is_not_stored():
    keys = keys_at([100.0])
    generation = keys.generation  # a request looks up the key
    keys.clear()  # another request revokes it
    keys.store("hash", ANNE, generation)  # the first one stores its result
    assert keys.find("hash") is None


def test_the_cache_size_is_limited():
    keys = keys_at([100.0])
    for number in range(25_000):
        keys.store(f"hash {number}", ANNE, keys.generation)
    assert len(keys._callers) <= 10_000
    assert keys.find("hash 24999") == ANNE
