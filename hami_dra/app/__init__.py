"""Composition roots, one a process: the only place that names concrete adapters.

Each builds its parts, gives every thread to one group, and waits for a signal or for the group's first error.
"""
