"""Rows of results: what is derived from them, and the table that is printed."""


def complete(rows):
    """Adds to each row its rate, its share of the copy's, and how many times groupgrad's time it takes: of one operation
    and size, the rows with the roles `copy` and `groupgrad`."""
    for row in rows:
        beside = {r["role"]: r["medianMs"] for r in rows if (r["operation"], r["size"]) == (row["operation"], row["size"])}
        if row.get("usefulBytes"):
            row["gigabytesPerSecond"] = row["usefulBytes"] / row["medianMs"] / 1e6
            row["shareOfCopy"] = beside["copy"] / row["medianMs"] if "copy" in beside else None
        row["timesGroupgrad"] = row["medianMs"] / beside["groupgrad"] if "groupgrad" in beside else None


def _number(value, digits=3):
    if value is None:
        return ""
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, digits - whole)}f}" if abs(value) >= 1 else f"{value:.{digits}g}"


_COLUMNS = [
    ("median ms", lambda r: _number(r["medianMs"])),
    ("p10–p90 ms", lambda r: f"{_number(r['p10Ms'])}–{_number(r['p90Ms'])}"),
    ("useful GB/s", lambda r: _number(r.get("gigabytesPerSecond"))),
    ("of the copy's rate", lambda r: f"{r['shareOfCopy']:.0%}" if r.get("shareOfCopy") else ""),
    ("times groupgrad", lambda r: _number(r.get("timesGroupgrad"))),
    ("extra MiB", lambda r: _number(r.get("peakExtraMiB"))),
    ("error", lambda r: f"{r['error']:.1e}" if r.get("error") is not None else ""),
    ("kernels", lambda r: str(r.get("kernels") or "")),
]


def markdown(rows, skipped):
    """One table an operation and size, and what was not measured."""
    lines = []
    for operation, size in dict.fromkeys((r["operation"], r["size"]) for r in rows):
        lines += [f"\n### {operation}, {size}\n"]
        lines += ["| | " + " | ".join(title for title, _ in _COLUMNS) + " |"]
        lines += ["| --- |" + " ---: |" * len(_COLUMNS)]
        for row in rows:
            if (row["operation"], row["size"]) == (operation, size):
                lines += [f"| {row['contender']} | " + " | ".join(cell(row) for _, cell in _COLUMNS) + " |"]
    if skipped:
        lines += ["\nNot measured:\n"]
        reasons = {}
        for entry in skipped:
            reasons.setdefault((entry["contender"], entry["reason"]), []).append(f"{entry['operation']}, {entry['size']}")
        for (contender, reason), where in reasons.items():
            lines += [f"- {contender}: {reason} ({where[0] if len(where) == 1 else f'{len(where)} sizes'})"]
    return "\n".join(lines)
