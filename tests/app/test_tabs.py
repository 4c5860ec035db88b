"""What is kept for each browser tab."""

from refusion.app.tabs import TabStore


def test_a_value_is_kept_for_its_tab_and_its_key():
    store = TabStore()
    assert store.get("tab", "photo", "key") is None
    store.put("tab", "photo", "key", 1)
    store.put("tab", "haze", "key", 2)
    store.put("other", "photo", "key", 3)
    assert store.get("tab", "photo", "key") == 1
    assert store.get("tab", "haze", "key") == 2
    assert store.get("other", "photo", "key") == 3
    assert store.get("other", "haze", "key") is None


def test_a_value_with_another_key_is_dropped():
    store = TabStore()
    store.put("tab", "photo", "key", 1)
    assert store.get("tab", "photo", "another photo") is None
    assert store.get("tab", "photo", "key") is None


def test_the_number_of_tabs_is_bounded():
    store = TabStore()
    for number in range(100):
        store.put(str(number), "photo", "key", number)
    found = [number for number in range(100) if store.get(str(number), "photo", "key")]
    assert found == list(range(92, 100))
