"""What a model's answers are worth: figures, intervals, comparisons, and what makes figures too good.

Figures come from predictions alone: `metrics` from sums per patient (`tallies`, with a `ranking` of slices;
`set_tallies` for several classes at once), `intervals` from patients left out in turn (`assess`, by the
`jackknife`), of slices or of studies and patients (`aggregation`, `units`, judged by a `unit_rule`). Models
side by side: `comparison` of `run_answers`, with what is had for nothing (`baseline`), other thresholds
(`operating`), `pairs` and the tests of `paired`; over many splits `repeated_cv`, with `refits` and
`drawn_figures`; people beside models, `reader_comparison`.
What a model is worth in use is `clinical`: `calibration_line` (with `left_out_lines`), `decision_curve`,
`fixed_points`. For whom it holds is `subgroups`, in `bands`.
What makes figures too good: `leakage`, made of `duplicates`, `findings`, `inflation` and `shortcuts` (with
`permuted_labels`). What more patients would bring: `learning_curve` with `power_law`. What is measured on
slices beside answers: `patient_means`. Everything here may be imported from outside.
`held_out` fits heads again in folds that are drawn.
"""
