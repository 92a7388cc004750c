"""What a model's answers are worth: figures, intervals, comparisons, and what makes figures too good."""
