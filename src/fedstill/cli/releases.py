"""What leaves a participant in a round, in words, from the recipes that an algorithm asks with."""

from __future__ import annotations

from collections.abc import Sequence

from fedstill.messages import Kind, Part, Recipe


def released(recipes: Sequence[Recipe], n_items: int, n_inputs: int, n_classes: int) -> list[str]:
    """All that each recipe asks for, a phrase each; the second is for those whom the first has singled out.

    Parameters
    ----------
    recipes:
        Those of a strategy.
    n_items, n_inputs:
        Rows and columns of the transfer set.
    n_classes:
        Columns of soft labels, where these are about classes.
    """
    phrases = [_all(recipe, n_items, n_inputs, n_classes) for recipe in recipes]
    return [*phrases[:1], *(f"those who are then asked on, {phrase}" for phrase in phrases[1:])]


def _all(recipe: Recipe, n_items: int, n_inputs: int, n_classes: int) -> str:
    things = [_main(recipe, n_items, n_inputs, n_classes)]
    things += ["how dense its own rows are at each item, as weights"] if recipe.certainty else []
    things += ["the number of its rows"] if recipe.count else []
    things += ["the held-out loss of its model"] if recipe.score else []
    things += ["whether its update was within the clip"] if recipe.adaptive else []
    return ", ".join(things[:-1]) + " and " + things[-1] if len(things) > 1 else things[0]


def _main(recipe: Recipe, n_items: int, n_inputs: int, n_classes: int) -> str:
    about = f"about {n_items} public items of {n_inputs} inputs"
    if recipe.release is Kind.SKETCH:
        return f"a sketch, {recipe.sketch} numbers, of its soft labels {about}"
    if recipe.release is Kind.LABELS and recipe.about == "classes":
        return f"a soft label for each of {n_classes} classes, the mean of what its model says of its own rows of it"
    if recipe.release is Kind.LABELS:
        return f"soft labels {about}"
    stays = "" if recipe.home is Part.NONE else f", without their {recipe.home}"
    return f"the {recipe.release} of models of {n_inputs} inputs{stays}"
