"""Simulated residents: seeded generators, real vaults, and the exact answers that only a simulation knows.

Everything here is made up and says so: :attr:`Simulation.about`, the metadata of written files, the names of vaults,
and the name of the city, without which nobody is admitted. ::

    from datasov.sim import Grant, ageing, compare, enrol

    people = ageing(300, seed=1)
    city = ds.City.open("a.city", name="simulated A-city", budget=ds.zcdp(rho=1), purposes=["care"])
    enrol(people, city, [Grant(...)], "vaults")
    release = city.release(question, loss=ds.zcdp(rho="0.1"), purpose="care")
    compare(release, people.truth["visits"])

A seed fixes the rows. Keys, ranks and noise are never seeded.
"""

from datasov.sim.devices import gates
from datasov.sim.elders import ageing
from datasov.sim.exact import compare, covered, cut
from datasov.sim.rides import on_demand
from datasov.sim.simulation import MARK, RESIDENT, Simulation
from datasov.sim.town import maebashi, topic
from datasov.sim.vaults import Enrolled, Grant, check_simulated, enrol

__all__ = [
    "MARK", "RESIDENT", "Enrolled", "Grant", "Simulation", "ageing", "check_simulated", "compare", "covered", "cut",
    "enrol", "gates", "maebashi", "on_demand", "topic",
]  # fmt: skip
