"""Stage one on many hosts, by Dask: workers take paths, embed, and write parts of the store.

`connection` is the way to a scheduler, as ``--cluster`` names it; `elsewhere` does what stage one does,
there: `crew` is who of the workers can do it alike, `dispatch` which batch of slices is with whom, `worker`
what runs over there and `messages` what goes to and fro. distributed and dask-jobqueue are imported here
alone, when they are used. From outside: `connection` and `elsewhere`.
"""
