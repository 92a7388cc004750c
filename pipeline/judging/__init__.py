"""Models judged on slices of elsewhere, untouched: ``haemo evaluate``.

`judged_model` is what is judged, and the one place that finds it by what a person types; `answers` are its
scores for a manifest, resumable, and `scores_table` those of anyone's CSV file; `labels` brings what slices
are called there to the classes of a model, and `sides` models to one another. `judgement` is the whole:
figures, then `shift` against what a model was trained on and `recalibration` as an offer; `judgement_page` is
its page, `judgement_documents` its checklists. From outside: `judged_model`, `judgement`, `sides` and these.
"""
