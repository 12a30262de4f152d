"""Attacks on the synthetic table: what could somebody learn from it about people in the original?

Each attack has a *risk* (success against training rows), a *control* (success against holdout rows) and a naive *baseline*.
What succeeds equally on training and holdout rows was learned from the population, not from the person. The scheme is Giomi et
al. 2022 (Anonymeter, arXiv:2211.10459). Stadler et al. 2022 (USENIX Security, arXiv:2011.07018) argue for attacks instead of
measures of similarity.
"""
