"""What `make check` and `make test` run: steps, the sizes rule, and the one line of counts at the end."""
