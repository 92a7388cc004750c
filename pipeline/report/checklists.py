"""Reporting checklists: TRIPOD+AI and CLAIM 2024, filled from what is known, the rest left to the authors."""

from collections.abc import Mapping

__all__ = ["CLAIM_2024", "TRIPOD_AI", "checklist"]

AUTHORS = "for the authors"

# Wording is our own and short; the numbers are those of the statements.
CLAIM_2024 = {
    "1": "Title or abstract names the study as one of AI, and its kind",
    "2": "Abstract: design, methods, results, conclusions",
    "3": "Background, intended use and clinical role",
    "4": "Aims, objectives, hypotheses",
    "5": "Prospective or retrospective",
    "6": "Goal of the study",
    "7": "Data sources",
    "8": "Inclusion and exclusion criteria",
    "9": "Preprocessing",
    "10": "Selection of subsets of the data",
    "11": "De-identification",
    "12": "Missing data",
    "13": "Image acquisition protocol",
    "14": "How the reference standard was obtained",
    "15": "Why that reference standard",
    "16": "Source of the annotations",
    "17": "Annotation of the test set",
    "18": "Variability within and between annotators",
    "19": "Assignment of data to partitions",
    "20": "Level at which partitions are disjoint",
    "21": "Intended sample size",
    "22": "Model",
    "23": "Software",
    "24": "Initialisation of parameters",
    "25": "Training approach",
    "26": "Selection of the final model",
    "27": "Ensembling",
    "28": "Metrics",
    "29": "Measures of significance and uncertainty",
    "30": "Robustness or sensitivity analysis",
    "31": "Explainability",
    "32": "Evaluation on internal data",
    "33": "Testing on external data",
    "34": "Registration of the trial",
    "35": "Numbers of patients or examinations included and excluded",
    "36": "Demographic and clinical characteristics by partition",
    "37": "Performance with uncertainty",
    "38": "Estimates of diagnostic accuracy and their precision",
    "39": "Failure analysis",
    "40": "Limitations",
    "41": "Implications for practice",
    "42": "Full protocol or further technical details",
    "43": "Availability of software, model and data",
    "44": "Funding and the role of funders",
}
"""Items of Tejani et al., Radiology: Artificial Intelligence 6(4), 2024, e240300."""

TRIPOD_AI = {
    "1": "Title",
    "2": "Abstract",
    "3a": "Healthcare context and rationale",
    "3b": "Target population and intended use",
    "3c": "Known health inequalities",
    "4": "Objectives: development, evaluation or both",
    "5a": "Sources of data",
    "5b": "Dates of the data",
    "6a": "Setting",
    "6b": "Eligibility criteria",
    "6c": "Treatments received",
    "7": "Data preparation",
    "8a": "Outcome",
    "8b": "Assessors of the outcome",
    "8c": "Blinding of the outcome",
    "9a": "Choice of predictors",
    "9b": "Definition of predictors",
    "9c": "Assessors of predictors",
    "10": "Sample size",
    "11": "Missing data",
    "12a": "How data were used",
    "12b": "Handling of predictors",
    "12c": "Type of model and how it was built",
    "12d": "Heterogeneity between clusters",
    "12e": "Measures of performance",
    "12f": "Model updating",
    "12g": "How predictions were calculated",
    "13": "Class imbalance",
    "14": "Fairness",
    "15": "Output of the model and thresholds",
    "16": "Differences between training and evaluation data",
    "17": "Ethical approval",
    "18a": "Funding",
    "18b": "Conflicts of interest",
    "18c": "Protocol",
    "18d": "Registration",
    "18e": "Sharing of data",
    "18f": "Sharing of code",
    "19": "Involvement of patients and the public",
    "20a": "Flow of participants",
    "20b": "Characteristics of participants",
    "20c": "Comparison of training and evaluation data",
    "21": "Participants and events in each analysis",
    "22": "Full specification of the model",
    "23a": "Performance, overall and by subgroup, with intervals",
    "23b": "Heterogeneity of performance",
    "24": "Results of updating",
    "25": "Interpretation",
    "26": "Limitations",
    "27a": "Poor or missing input at use",
    "27b": "Interaction of users",
    "27c": "Next steps of research",
}
"""Items of Collins et al., BMJ 385, 2024, e078378."""


def checklist(title: str, items: Mapping[str, str], answers: Mapping[str, str], preface: str) -> str:
    """One checklist as Markdown: what is known is answered, everything else is said to be the authors'.

    Parameters
    ----------
    title : str
    items : mapping of str to str
        `CLAIM_2024` or `TRIPOD_AI`.
    answers : mapping of str to str
        By item; a key that is no item is an error of ours.
    preface : str

    Raises
    ------
    KeyError
        If an answer is to no item.
    """
    for number in answers:
        items[number]
    rows = [(number, asks, answers.get(number) or AUTHORS) for number, asks in items.items()]
    left = sum(answer == AUTHORS for *_, answer in rows)
    lines = ["| item | asks for | answer |", "| --- | --- | --- |"]
    lines += [
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in rows
    ]
    known = len(rows) - left
    counted = f"{known} of {len(rows)} items are answered from what is known, {left} are for the authors."
    return "\n".join([f"# {title}", "", preface, "", counted, "", *lines, ""])
