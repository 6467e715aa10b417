"""Clients of services that a run asks over the network."""
