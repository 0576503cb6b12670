"""What leaves a participant, in words, where the command line's own tests do not come by."""

from __future__ import annotations

from fedstill.algorithms.fd import fd
from fedstill.algorithms.fedsgd import fedsgd
from fedstill.algorithms.references import local
from fedstill.cli.releases import released
from fedstill.messages import Kind, Recipe


def test_a_soft_label_a_class() -> None:
    """No word of public items: `fd` does not predict them."""
    assert released(fd().recipes, 120, 43, 3) == [
        "a soft label for each of 3 classes, the mean of what its model says of its own rows of it"
    ]


def test_gradients() -> None:
    assert released(fedsgd().recipes, 120, 43, 3) == ["the gradients of models of 43 inputs and the number of its rows"]


def test_every_kind_has_words() -> None:
    """Different ones for each, also with all that can be told beside."""
    told = {released([Recipe(kind, count=True, score=True)], 1, 2, 3)[0] for kind in Kind}
    assert len(told) == len(Kind)
    assert all(one.endswith(", the number of its rows and the held-out loss of its model") for one in told)
    assert len(released(local().recipes, 1, 2, 3)) == 1
