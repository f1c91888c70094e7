"""`make demo`: chapters that act on a real cluster, show what happens, and hold every promise to what is really seen."""
