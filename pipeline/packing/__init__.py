"""A trained model as one file that can be handed over: ``haemo pack``.

`bundlefile` is the file, read as if a stranger had written it; `packing` makes one of a model of a run
(`pack`), `unpacking` makes models of it again (`open_bundle`), and `modelfile` of any file. `packed_head` is
what it holds of a head, `held_out` what of the slices held out of training. `hubcard` is the
card of a repository on the Hugging Face Hub, `plain` takes out of skops files what differs
between two savings of one head. From outside: `packing`, `modelfile`.
"""
