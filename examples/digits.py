"""Five labs read handwritten digits; none has seen all of them. Classification with unlike models.

python examples/digits.py

The images are scikit-learn's own (`load_digits`: 1797 images of 8 x 8 pixels). 500 of them are the transfer set, of
which the labels are not used. The others are dealt to the labs so that each has mostly a few of the ten digits: for
every digit the labs' shares are drawn from a Dirichlet distribution with concentration 0.2 (Hsu, Qi and Brown 2019,
arXiv:1909.06335). A lab is judged on all digits that its own held-out rows have, so a lab that has seen few digits
can look good alone.
"""

import numpy as np
from sklearn.datasets import load_digits

from fedstill import Classification, Federation, Member

LABS = {
    "lab-a": "hist_gradient_boosting",
    "lab-b": "extra_trees",
    "lab-c": "mlp",
    "lab-d": "linear",
    "lab-e": "extra_trees",
}


def main() -> None:
    table = load_digits(as_frame=True).frame
    shuffled = table.sample(frac=1, random_state=0)
    public, private = shuffled[:500], shuffled[500:]

    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(len(LABS), 0.2), size=10)  # one row a digit
    owner = np.array([random.choice(len(LABS), p=shares[digit]) for digit in private["target"]])

    task = Classification(
        target="target",
        classes=tuple(str(digit) for digit in range(10)),
        columns=tuple(table.columns.drop("target")),
    )
    members = [Member(name, private[owner == i], learner) for i, (name, learner) in enumerate(LABS.items())]
    for member in members:
        print(f"{member.name}: {len(member.data)} images of {member.data['target'].nunique()} digits")
    history = Federation(task, members, public, rounds=2).run()
    print(history.table())


if __name__ == "__main__":
    main()
