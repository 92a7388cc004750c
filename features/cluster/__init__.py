"""Work on many hosts, by Dask: in stage one workers take paths, embed, and write parts of the store.

`connection` is the way to a scheduler, as ``--cluster`` names it; `elsewhere` does what stage one does,
there: `crew` is who of the workers can do it alike, `dispatch` which batch of slices is with whom, `worker`
what runs over there and `messages` what goes to and fro. `sharing` has pieces of stage two done there.
`hosts` is what any worker is asked first, and what is said of one that cannot answer.
distributed and dask-jobqueue are imported here alone, when they are used. From outside: `connection`,
`elsewhere` and `sharing`.
"""
