"""Two enterprises forecast tomorrow's load together; the data are artificial. Takes about ten seconds.

python examples/quickstart.py
"""

from fedstill import Federation, Forecast, Layout, Member, from_frame, window
from fedstill.energy.synthetic import synthetic

plant, mill, *public = from_frame(synthetic(n_sites=4, days=366), Layout(timezone="Europe/Berlin")).values()
public = [window(site, "2016-01-01", "2016-10-01") for site in public]
task = Forecast(naive="week", test=("2016-10-01", "2017-01-01"))
members = [
    Member("plant", plant, "hist_gradient_boosting", history=("2016-07-15", "2016-10-01")),
    Member("mill", mill, "extra_trees", history=("2016-01-15", "2016-04-01")),
]
history = Federation(task, members, public, items=1000).run()
print(history.table())
