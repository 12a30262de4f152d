"""The reference for marginals_adult.py: smartnoise-synth's MST or AIM on the same rows, in an environment of its own.

    pip install smartnoise-synth==1.0.8          (not beside localsynth)
    python benchmarks/marginals_smartnoise.py DATA_DIR mst|aim OUT.csv
    python benchmarks/marginals_adult.py DATA_DIR judge=OUT.csv

Numbers have 20 bins of equal width between their published bounds, education-num has each of its values.
"""

import resource
import sys
import time

import pandas as pd
from snsynth import Synthesizer
from snsynth.transform import BinTransformer, LabelTransformer, TableTransformer

_NUMBERS = ("age", "fnlwgt", "capital-gain", "capital-loss", "hours-per-week")


def main() -> None:
    folder, method, out = sys.argv[1:]
    train, test = (pd.read_csv(f"{folder}/adult_{part}.csv.gz", keep_default_na=False) for part in ("train", "test"))
    both = pd.concat([train, test])
    transformers = [
        BinTransformer(bins=20, lower=int(both[name].min()), upper=int(both[name].max()), nullable=False)
        if name in _NUMBERS
        else LabelTransformer(nullable=False)
        for name in train.columns
    ]
    begun = time.time()
    synthesizer = Synthesizer.create(method, epsilon=1.0, delta=1e-5)
    synthesizer.fit(train, transformer=TableTransformer(transformers), preprocessor_eps=0.0)
    fitted = time.time()
    pd.DataFrame(synthesizer.sample(len(train)), columns=train.columns).to_csv(out, index=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{method}: fit {fitted - begun:.1f} s, sample {time.time() - fitted:.1f} s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
