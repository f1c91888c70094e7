"""The product on a cluster: what the demo, the e2e tests and the benchmarks do alike.

Nothing in here asserts; whoever uses it looks at what comes back.
"""
