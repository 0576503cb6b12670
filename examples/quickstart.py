"""Two enterprises forecast tomorrow's load together; the data are artificial. Runs in a few seconds.

python examples/quickstart.py
"""

from fedstill import Federation, Forecast, Layout, Member, from_frame
from fedstill.energy.synthetic import synthetic

# One site of each name; the last one is public and takes no part.
plant, mill, public = from_frame(synthetic(n_sites=3, days=200), Layout(timezone="Europe/Berlin")).values()

task = Forecast(test=("2016-06-01", "2016-07-18"))
members = [
    Member("plant", plant, "linear", history=("2016-04-01", "2016-05-15")),
    Member("mill", mill, "extra_trees", history=("2016-01-15", "2016-03-01")),
]
history = Federation(task, members, public, items=1000).run()
print(history.table())
