"""Grid search that does shared work once, with the answers of scikit-learn's GridSearchCV.

`grid` is the entrance (`SharedSearchCV`), `scoring` what it maximises, `cells` what one setting on one
fold is. It has four ways through: `kernel_search` on `kernels`; `newton_search` on `newton_svm`, for few
rows; `path_search` on `linear_path`, `curvature`, `path_losses` and `working_set`, for many; `plain_search`
for the rest. `rows` is a feature matrix that may lie on disk. From outside: `grid`, `scoring`, `cells`,
`rows`, and the solvers `newton_svm` and `linear_path` for questions that need many fits.
"""
