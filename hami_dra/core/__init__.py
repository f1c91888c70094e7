"""Pure: values in, values out.  What a claim means, what a share is, what to publish and what to write, decided here alone.

No module below imports os, time, threading, logging, grpc, kubernetes or pynvml; services and adapters do the doing.
"""
