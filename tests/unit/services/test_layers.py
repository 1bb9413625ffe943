"""Layers behave as dictionaries, and copies of them by themselves."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hpcq.services.layers import Layers

KEYS = st.integers(0, 300)


class AsADictionary(RuleBasedStateMachine):
    """Whatever is done to it, it holds what a dictionary would."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: Layers[int, int] = Layers({key: -key for key in range(200)})
        self.model = {key: -key for key in range(200)}
        self.frozen: list[tuple[Layers[int, int], dict[int, int]]] = []

    @rule(key=KEYS, value=st.integers())
    def put(self, key: int, value: int) -> None:
        self.layers[key] = value
        self.model[key] = value

    @rule(keys=st.lists(KEYS))
    def take_out(self, keys: list[int]) -> None:
        for key in keys:
            assert self.layers.pop(key) == self.model.pop(key, None)

    @rule()
    def go_on_with_a_copy(self) -> None:
        self.frozen.append((self.layers, dict(self.model)))
        self.layers = self.layers.copy()

    @invariant()
    def holds_the_same(self) -> None:
        for layers, model in [*self.frozen, (self.layers, self.model)]:
            assert dict(layers.items()) == model
            assert len(layers) == len(model)

    @rule(key=KEYS)
    def ask(self, key: int) -> None:
        assert self.layers.get(key) == self.model.get(key)
        assert (key in self.layers) == (key in self.model)


test_layers = AsADictionary.TestCase


@given(st.lists(st.tuples(KEYS, st.integers())))
def test_keys_keep_the_order_in_which_they_came(pairs: list[tuple[int, int]]) -> None:
    layers: Layers[int, int] = Layers()
    for key, value in pairs:
        layers = layers.copy()
        layers[key] = value
    assert list(layers.items()) == list(dict(pairs).items())
    assert list(layers.values()) == list(dict(pairs).values())
