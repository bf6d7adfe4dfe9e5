"""Graded findings: what the numbers of all analyses say that a reader should know first, and what to do about it.

Rules are data, in the YAML files beside this one (rules.py says what an entry holds): a condition on the columns of one
table, beside the null that the registry of metrics names, a grade, a sentence and a remedy. views.py works out the few
columns that compare a row with others. gather.py applies all rules to what a model's analyses left, and takes over the
findings that analyses state themselves.

Grades: critical (the model, or a part of it, does not work), notable (look at this before you use, quantize or train
on), info (what the numbers are like).
"""
