"""Writes the Parquet files of test/golden/parquet, which test/unit/dataset.test.ts reads: python3 test/golden/parquet.py

Needs pyarrow. Every file contains the rows of `rows`, with one codec per file; `groups.parquet` has 250 rows in groups of 100.
"""

import datetime
import pathlib

import pyarrow
import pyarrow.parquet

folder = pathlib.Path(__file__).parent / "parquet"
folder.mkdir(exist_ok=True)

rows = [
    {
        "question": f"What is {i} + {i}?",
        "answer": 2 * i,
        "large": 2**60 + i,
        "share": i / 8,
        "hint": None if i % 3 == 0 else f"twice {i} – ½",
        "extra": {"level": i % 5, "source": {"name": "made up"}},
        "choices": [str(i), str(2 * i)],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"What is {i} + {i}?"},
        ],
        "day": datetime.date(2024, 1, 1 + i),
    }
    for i in range(7)
]
schema = pyarrow.schema(
    {
        "question": pyarrow.string(),
        "answer": pyarrow.int64(),
        "large": pyarrow.int64(),
        "share": pyarrow.float64(),
        "hint": pyarrow.string(),
        "extra": pyarrow.struct({"level": pyarrow.int32(), "source": pyarrow.struct({"name": pyarrow.string()})}),
        "choices": pyarrow.list_(pyarrow.string()),
        "messages": pyarrow.list_(pyarrow.struct({"role": pyarrow.string(), "content": pyarrow.string()})),
        "day": pyarrow.date32(),
    }
)
table = pyarrow.Table.from_pylist(rows, schema=schema)
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    pyarrow.parquet.write_table(table, folder / f"{codec}.parquet", compression=codec)
groups = pyarrow.table({"prompt": [f"p{i}" for i in range(250)], "answer": [f"{i}" for i in range(250)]})
pyarrow.parquet.write_table(groups, folder / "groups.parquet", row_group_size=100)
