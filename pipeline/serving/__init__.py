"""The reader's page: studies to scroll through, and what a model says of them, in a browser on this machine.

`server` is the entrance; `app` says which address is answered by what, behind a `guard`, for `sessions`.
The `room` knows every study and who may open it: what was dropped (`uploads`), what was named, and the
`runs`, which have `run_pages` and `reading_pages`. `studies` are slices in order; `pixels` sends them,
`queue` has them scored by a `worker` process as `scored` does it; `findings` is all that is known of one, and
`report` a page of it. `pages` fills `templates/`; `static/` is what a browser loads. From outside: `server`.
"""
