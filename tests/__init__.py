"""The tests of minigrad. A package, so that tests can share helpers such as `tests.strict`."""
