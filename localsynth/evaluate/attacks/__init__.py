"""Attacks on the synthetic table: what could somebody learn from it about the people in the original?

Each attack aims at rows that were trained on, and again, as its *control*, at holdout rows that were not: what works equally
well on both was learned from the population, not from the person. Each has a naive *baseline* that does without the linkage
the attack exploits. The scheme is Giomi et al. 2022 (Anonymeter, arXiv:2211.10459); that one must attack rather than measure
similarity is argued by Stadler et al. 2022 (USENIX Security, arXiv:2011.07018).
"""
