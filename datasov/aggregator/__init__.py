"""An aggregator of the two-server trust model: a process of its own with a store of its own, leader or helper."""
